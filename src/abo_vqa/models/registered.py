"""The registered model: an MLflow pyfunc "model from code" that answers questions about images.

MLflow copies this file, and the packages `core`, `data` and `models` of this project, next to the
adapter and runs it to load the model: it answers with the pipeline's own code wherever the packages
of its requirements are installed.

    model = mlflow.pyfunc.load_model("models:/abo-vqa-blip-lora@champion-sample")
    model.predict(pandas.DataFrame({"image": ["chair.jpg"], "question": ["What color is it?"]}))
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Threads that spin while they wait make a small model 20 times slower on a busy machine. Read when
# torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import mlflow
import pandas as pd

from abo_vqa.core.config import ComputeConfig
from abo_vqa.core.errors import AboVqaError
from abo_vqa.data.image_inputs import ImageInputs, ImageQuestion
from abo_vqa.data.web_images import WebImages
from abo_vqa.models.adapted import adapted_checkpoint, load_adapted
from abo_vqa.models.answering.inference import QuestionAnswerer

_FETCH = "ABO_VQA_FETCH_URLS"
_NETWORKS = "ABO_VQA_FETCH_NETWORKS"
_FOLDER = "ABO_VQA_IMAGE_FOLDER"


def _image_inputs() -> ImageInputs:
    """Return where images may come from: files, and where it is allowed, addresses.

    Otherwise anybody who may ask a served model could have it call addresses inside its network.
    """
    networks = tuple(os.environ.get(_NETWORKS, "").replace(",", " ").split())
    folder = os.environ.get(_FOLDER)
    return ImageInputs(
        paths=True,
        folder=Path(folder) if folder else None,
        web=WebImages(networks=networks) if os.environ.get(_FETCH) == "1" else None,
        advice=f"set {_FETCH}=1 where the model runs",
    )


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
            UserError: the base isn't the model that the adapter was trained on.
        """
        settings: Mapping[str, Any] = context.model_config or {}
        folder = Path(context.artifacts["adapter"])
        base = settings.get("base")  # stored once, for all versions
        if base is not None:
            base = mlflow.artifacts.download_artifacts(base)
        compute = ComputeConfig(
            device=settings.get("inference_device", "auto"),
            dtype=settings.get("inference_dtype", "float32"),
        )
        checkpoint = adapted_checkpoint(folder, settings, base)
        self._threads = int(settings.get("threads", 1))
        model = load_adapted(folder, checkpoint, compute)
        self._answerer = QuestionAnswerer(model, checkpoint.batch_size)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer the rows in batches; one that can't be answered fails alone.

        Args:
            context: MLflow's; not used.
            model_input: the columns image and question.
            params: MLflow's; not used.

        Returns:
            The columns answer and error, None where there is none.
        """
        del context, params
        table: list[tuple[str | None, str | None]] = [(None, None)] * len(model_input)
        asked: dict[int, ImageQuestion] = {}
        inputs = _image_inputs()
        rows = zip(model_input["image"], model_input["question"], strict=True)
        for row, (image, question) in enumerate(rows):
            try:
                asked[row] = _read(inputs, image, question)
            except (AboVqaError, OSError) as error:
                table[row] = None, str(error)
        with self._pinned_threads():
            answers = self._answerer.answer(list(asked.values()))
        for row, answer in zip(asked, answers, strict=True):
            table[row] = (None, answer.error) if answer.error else (answer.text, None)
        columns = ["answer", "error"]
        return pd.DataFrame(table, columns=columns, index=model_input.index, dtype=object)

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


def _read(inputs: ImageInputs, image: Any, question: Any) -> ImageQuestion:
    """Return a row's image and question.

    Raises:
        AboVqaError: one of them is missing.
    """
    if not isinstance(question, str) or not question.strip():
        raise AboVqaError("no question given")
    return ImageQuestion(inputs.read(image), question)


mlflow.models.set_model(AdaptedModel())
