"""CLIP as a ranker of candidate answers (Radford et al., 2021, arXiv:2103.00020), by open_clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from torch import Tensor

from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from abo_vqa.models.answers import Answer
from abo_vqa.models.base import VQAModel
from abo_vqa.models.clip.text import TextTower, normalize
from abo_vqa.models.hub import hub_options, require_disk_space, silence_libraries
from abo_vqa.models.loading import out_of_memory_advice
from abo_vqa.models.loading_errors import loading_errors
from abo_vqa.models.pixels import pixel_dtype
from abo_vqa.models.record import checkpoint_record

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from PIL.Image import Image

    from abo_vqa.core.config import CheckpointConfig, ComputeConfig


class Clip(VQAModel):
    """The candidate whose sentence "Question: … Answer: candidate" is most similar to the image.

    Nearly all of the work is text: questions times candidates. It is done once per distinct
    question, so rows with the same question share a batch.

    Shapes: B questions about N images, C candidates; features of width W.

    Args:
        model: an open_clip model in evaluation mode.
        transform: its image transform.
        tokenizer: its tokenizer.
        checkpoint: the checkpoint's settings.
        device: the model's device.
        candidates: the possible answers; `score_choices` doesn't need any.
    """

    batch_by: ClassVar[Literal["image", "question"]] = "question"
    supported_settings: tuple[str, ...] = ("dtype",)

    def __init__(
        self,
        model: CLIP,
        transform: Callable[[Image], Tensor],
        tokenizer: Callable[..., Tensor],
        checkpoint: CheckpointConfig,
        device: torch.device,
        candidates: Sequence[str],
    ) -> None:
        self.model = model
        self.transform = transform
        self.checkpoint = checkpoint
        self.device = device
        self.candidates = list(candidates)
        self.text = TextTower(model, tokenizer)

    @classmethod
    def load(
        cls, checkpoint: CheckpointConfig, compute: ComputeConfig, candidates: Sequence[str] = ()
    ) -> Clip:
        """Load an open_clip model.

        Args:
            checkpoint: a local folder, a hub repository, or a tag of an architecture.
            compute: the device and the default dtype.
            candidates: the possible answers.

        Returns:
            The model in evaluation mode.

        Raises:
            UserError: it can't be loaded, or not with these settings.
        """
        import open_clip  # only here: the class also runs on models of other libraries

        silence_libraries()
        for setting in ("quantize", "device_map"):
            if (value := getattr(checkpoint, setting)) and setting not in cls.supported_settings:
                raise UserError(
                    f"{checkpoint.path}: {setting} is {value}, which open_clip's models don't "
                    f"have. Set {setting} to null."
                )
        device = pick_device(compute.device)
        dtype = pick_dtype(checkpoint, compute, device)
        with loading_errors(
            checkpoint, out_of_memory_advice(checkpoint, device, dtype, cls.supported_settings)
        ):
            name, options = _open_clip_name(checkpoint)
            # Unlike its other functions, this one refuses a model without weights.
            model, transform = open_clip.create_model_from_pretrained(
                name, device=device, **options
            )
            tokenizer = open_clip.get_tokenizer(name)
        scale = model.logit_scale.detach().to(device, copy=True)
        model = model.to(dtype).eval().requires_grad_(False)
        model.logit_scale.data = scale  # one number: in bfloat16 its exponential is 99, not 100
        return cls(model, transform, tokenizer, checkpoint, device, candidates)

    def preprocess(self, images: Sequence[Image]) -> Tensor:
        """Return pixel values [N, 3, side, side]."""
        pixel_values = torch.stack([self.transform(image) for image in images])
        return pixel_values.to(pixel_dtype(self.model.visual))

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return unit features [N, W] in float32 for pixel values [N, 3, side, side]."""
        with torch.inference_mode():
            features: Tensor = self.model.encode_image(pixel_values.to(self.device))
            return normalize(features)

    def image_vector(self, encoded: Tensor) -> Tensor:
        """Return an image's unit features [W]."""
        return encoded

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int]:
        """Count the tokens of the prompts with the longest choice, or the median candidate.

        A single long phrase among thousands of candidates is truncated; it mustn't make every
        question too long.
        """
        start, _, end = self.checkpoint.prompt.partition("{candidate}")
        prefixes = self.text.lengths(
            [start.replace("{question}", question) for question in questions]
        )
        if choices is None:
            suffixes = [self._median_suffix_length] * len(prefixes)
        else:
            suffixes = [max(self.text.lengths([c + end for c in options])) for options in choices]
        maximum = int(self.model.context_length)
        # Both parts are counted with a start and an end token.
        return [p + s - 2 for p, s in zip(prefixes, suffixes, strict=True)], maximum

    @cached_property
    def _median_suffix_length(self) -> int:
        """The median number of tokens of a candidate and what follows it."""
        _, _, end = self.checkpoint.prompt.partition("{candidate}")
        lengths = sorted(self.text.lengths([c + end for c in self.candidates]))
        return lengths[len(lengths) // 2] if lengths else 2

    def predict_answers(
        self, encoded: Tensor, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Choose the most similar candidate; `encoded` is [N, W]."""
        if not self.candidates:
            raise UserError("CLIP chooses among candidate answers, and none are given.")
        answers: dict[int, Answer] = {}
        rows_of: dict[str, list[int]] = {}
        for row, question in enumerate(questions):
            rows_of.setdefault(question, []).append(row)
        for some, text_features in self.encode_texts(list(rows_of), self.candidates):
            for question, features in zip(some, text_features, strict=True):
                rows = rows_of[question]
                scores = self.similarities(encoded, [image_index[row] for row in rows], features)
                probability, best = scores.softmax(-1).max(-1)  # [rows], [rows]
                for row, p, i in zip(rows, probability.tolist(), best.tolist(), strict=True):
                    answers[row] = Answer(self.candidates[i], p)
        return [answers[row] for row in range(len(questions))]

    def score_choices(
        self,
        encoded: Tensor,
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Return the log of CLIP's softmax over the choices."""
        log_probs = []
        for image, question, options in zip(image_index, questions, choices, strict=True):
            _, text_features = next(self.encode_texts([question], options))
            scores = self.similarities(encoded, [image], text_features[0])  # [1, C]
            log_probs.append(scores[0].log_softmax(-1).tolist())
        return log_probs

    def encode_texts(
        self, questions: Sequence[str], candidates: Sequence[str]
    ) -> Iterator[tuple[list[str], Tensor]]:
        """Encode each question with each candidate, a few questions at a time.

        Args:
            questions: distinct questions.
            candidates: C possible answers.

        Yields:
            Some of the questions, and unit features [those questions, C, W].
        """
        start, _, end = self.checkpoint.prompt.partition("{candidate}")
        # If the prompt continues after the candidate, its end belongs to every suffix.
        suffixes = [candidate + end for candidate in candidates]
        prefixes = [start.replace("{question}", question) for question in questions]
        with torch.inference_mode():
            for positions, features in self.text.encode_pairs(prefixes, suffixes):
                yield [questions[i] for i in positions], features

    def similarities(
        self, encoded: Tensor, image_index: Sequence[int], text_features: Tensor
    ) -> Tensor:
        """Compute scaled cosine similarities in float32.

        Between 16 and 32, where most similarities lie, bfloat16 has steps of 0.125, and among
        thousands of candidates many would share the first place.

        Args:
            encoded: [N, W], unit features of images.
            image_index: the image of each of the B rows.
            text_features: [C, W], unit features of sentences.

        Returns:
            [B, C].
        """
        with torch.inference_mode():
            images = encoded[torch.as_tensor(image_index)].to(text_features.device)  # [B, W]
            scaled: Tensor = self.model.logit_scale.exp() * images.float()
            return scaled @ text_features.float().T

    def record(self) -> dict[str, Any]:
        """Return the checkpoint, the prompt and the number of candidates."""
        return {
            **checkpoint_record(self.checkpoint, self.model),
            "architecture": self.checkpoint.architecture or "",
            "prompt": self.checkpoint.prompt,
            "decoding": f"most similar of {len(self.candidates)} candidates",
        }


def _open_clip_name(checkpoint: CheckpointConfig) -> tuple[str, dict[str, Any]]:
    """Return the name and the options by which open_clip finds the weights.

    They are in a local folder; or the settings name an architecture, whose weights are in a hub
    repository (at its revision) or under one of open_clip's own tags; or a hub repository describes
    its architecture itself.
    """
    path, revision = checkpoint.path, checkpoint.revision
    if Path(path).is_dir():
        return f"local-dir:{path}", {}
    require_disk_space(path, revision)
    download = {"revision": revision, **hub_options(path)}
    if checkpoint.architecture is None:
        return f"local-dir:{snapshot_download(path, **download)}", {}
    if "/" in path:
        weights = hf_hub_download(path, "open_clip_model.safetensors", **download)
        return checkpoint.architecture, {"pretrained": weights}
    # OpenAI's weights were trained with the quick approximation of GELU.
    quick_gelu = path == "openai"
    return checkpoint.architecture, {"pretrained": path, "force_quick_gelu": quick_gelu}
