"""The registered model: an MLflow pyfunc "model from code" that answers questions about images.

MLflow copies this file next to the adapter and runs it to load the model, with `image_decoding.py`
as the only other module of the package: the model answers wherever torch, transformers and peft
are installed.

    model = mlflow.pyfunc.load_model("models:/abo-vqa-blip-lora@champion-sample")
    model.predict(pandas.DataFrame({"image": ["chair.jpg"], "question": ["What color is it?"]}))
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

# Threads that spin while they wait make a small model 20 times slower on a busy machine. Read when
# torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import mlflow
import pandas as pd

_MAX_BYTES = 50_000_000  # of an image that is fetched
_FETCH = "ABO_VQA_FETCH_URLS"


def _read_image(value: Any) -> bytes:
    """Return an image's bytes, from bytes, a data URL, base64, a path, or an address.

    Raises:
        ValueError: Why there is no image.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str | os.PathLike) or not str(value).strip():
        raise ValueError("no image given")
    text = os.fspath(value).strip() if isinstance(value, os.PathLike) else value.strip()
    if text.startswith("data:"):
        return _decode_base64(text.partition(",")[2])
    if text.lower().startswith(("http://", "https://")):
        return _fetch(text)
    if len(text) < 4096 and "\0" not in text and Path(text).is_file():
        return Path(text).read_bytes()
    try:
        return _decode_base64(text)
    except ValueError:
        raise ValueError(
            f"no image at {text[:200]!r} where the model runs, and it isn't base64"
        ) from None


def _decode_base64(text: str) -> bytes:
    """Decode base64, with or without line breaks, in either alphabet."""
    plain = "".join(text.split()).replace("-", "+").replace("_", "/")
    if len(plain) < 32:  # a short name could be base64 by chance; no image is that small
        raise ValueError("not base64")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _fetch(url: str) -> bytes:
    """Fetch an image from the web, if that is allowed where the model runs.

    Otherwise anybody who may ask a served model could have it call addresses inside its network.
    """
    if os.environ.get(_FETCH) != "1":
        raise ValueError(
            f"addresses aren't fetched: set {_FETCH}=1 where the model runs, or send base64"
        )
    try:
        with urlopen(url, timeout=20) as reply:
            data: bytes = reply.read(_MAX_BYTES + 1)
    except (URLError, OSError, ValueError) as error:
        raise ValueError(f"can't fetch {url}: {error}") from error
    if len(data) > _MAX_BYTES:
        raise ValueError(f"{url} has more than {_MAX_BYTES} bytes")
    return data


def _open_image(data: bytes) -> Any:
    """Decode an image as a browser shows it, in RGB; see `abo_vqa.data.image_decoding`.

    Raises:
        ValueError: Why it can't be read.
    """
    from image_decoding import decode  # type: ignore[import-not-found]  # copied beside this file

    try:
        return decode(data, "")
    except ValueError as error:
        raise ValueError(f"not an image that can be read: {error}") from error


def _has_template(processor: Any) -> bool:
    """Tell whether a processor has a chat template."""
    return bool(processor.chat_template or processor.tokenizer.chat_template)


class AdaptedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, unused-ignore]
    """A model of transformers with a LoRA adapter.

    Input columns: image (a path, base64, a data URL, bytes; an address where ABO_VQA_FETCH_URLS=1
    is set) and question. Output columns: answer, and error, which says why a row has no answer.
    """

    def load_context(self, context: Any) -> None:
        """Load the base and the adapter.

        Args:
            context: MLflow's, with the adapter's folder and the settings.

        Raises:
            ValueError: The base isn't the model that the adapter was trained on.
        """
        from peft import PeftModel
        from transformers import (
            AutoConfig,
            AutoModelForImageTextToText,
            AutoProcessor,
            BlipForQuestionAnswering,
        )
        from transformers.utils import logging

        logging.disable_progress_bar()
        settings = context.model_config or {}
        adapter = context.artifacts["adapter"]
        described = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
        base, revision = described["base_model_name_or_path"], described.get("revision")
        if "base" in settings:  # stored once, for all versions
            base, revision = mlflow.artifacts.download_artifacts(settings["base"]), None
        kind = AutoConfig.from_pretrained(base, revision=revision).model_type
        # transformers would choose BLIP's class for captions.
        loader = BlipForQuestionAnswering if kind == "blip" else AutoModelForImageTextToText
        model, loading = loader.from_pretrained(
            base, revision=revision, dtype="float32", output_loading_info=True
        )
        if missing := sorted(loading["missing_keys"]):
            raise ValueError(
                f"{base} lacks {len(missing)} of the model's weights, e.g. {missing[0]}: it was "
                "saved by another version of transformers, or is another model."
            )
        self._model = PeftModel.from_pretrained(model, adapter).eval()
        self._processor = AutoProcessor.from_pretrained(adapter)
        self._prompt = str(settings.get("prompt", "{question}"))
        self._last_word = settings.get("answer") == "last_word"
        self._chat = settings.get("family") == "chat" and _has_template(self._processor)
        self._max_new_tokens = int(settings.get("max_new_tokens", 10))
        # The processors of the others put the image's tokens in front of the text by themselves.
        self._needs_image_token = kind not in ("blip", "blip-2", "paligemma")
        self._threads = int(settings.get("threads", 1))
        text = model.config.get_text_config()
        self._max_length = getattr(text, "max_position_embeddings", None)
        # transformers would warn at each row if max_length were set besides max_new_tokens.
        for part in model.modules():
            if getattr(part, "generation_config", None) is not None:
                part.generation_config.max_length = None

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer each row by itself; one that can't be answered fails alone.

        Args:
            context: MLflow's; not used.
            model_input: the columns image and question.
            params: MLflow's; not used.

        Returns:
            The columns answer and error, None where there is none.
        """
        del context, params
        rows = zip(model_input["image"], model_input["question"], strict=True)
        with self._pinned_threads():
            answers = [self._answer_or_reason(image, question) for image, question in rows]
        columns = ["answer", "error"]
        return pd.DataFrame(answers, columns=columns, index=model_input.index, dtype=object)

    @contextmanager
    def _pinned_threads(self) -> Iterator[None]:
        """Use as many threads as the pipeline, unless the caller has chosen some."""
        import torch

        before = torch.get_num_threads()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _answer_or_reason(self, image: Any, question: Any) -> tuple[str | None, str | None]:
        """Return the answer, or why there is none."""
        try:
            return self._answer(image, question), None
        except (ValueError, OSError) as error:
            return None, str(error)

    def _answer(self, image: Any, question: Any) -> str:
        """Answer one question: BLIP's stock `generate` ignores the padding of a mixed batch."""
        import torch

        if not isinstance(question, str) or not question.strip():
            raise ValueError("no question given")
        for token in map(str, getattr(self._processor, "all_special_multimodal_tokens", ())):
            if token in question:
                raise ValueError(f"the question contains {token}, which stands for an image")
        inputs = self._inputs(_open_image(_read_image(image)), question)
        prompt = inputs["input_ids"][0]
        if self._max_length is not None and len(prompt) > self._max_length:
            raise ValueError(
                f"the question has {len(prompt)} tokens; at most {self._max_length} fit"
            )
        with torch.inference_mode():
            output = self._model.generate(
                **inputs, max_new_tokens=self._max_new_tokens, do_sample=False
            )[0]
        # A decoder-only model repeats its prompt.
        if torch.equal(output[: len(prompt)], prompt):
            output = output[len(prompt) :]
        text = str(self._processor.decode(output, skip_special_tokens=True)).strip()
        if not self._last_word:
            return text
        words = [word.strip(string.punctuation) for word in text.split()]
        return next(filter(None, reversed(words)), "")

    def _inputs(self, image: Any, question: str) -> Any:
        """Return the model's inputs, as its family was asked in training."""
        text = self._prompt.replace("{question}", question)
        if self._chat:
            content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
            return self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        token = getattr(self._processor, "image_token", None)
        if token is not None and str(token) not in text and self._needs_image_token:
            text = f"{token}{text}"
        return self._processor(images=image, text=text, return_tensors="pt")


mlflow.models.set_model(AdaptedModel())
