"""CLIP as a ranker of candidate answers (Radford et al., 2021, arXiv:2103.00020), by open_clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from abo_vqa.models.base import Answer, VQAModel
from abo_vqa.models.clip.text import TextTower, unit
from abo_vqa.models.hub import hub_options, quiet, require_room
from abo_vqa.models.loading import describe, refusals, too_large
from abo_vqa.models.pixels import pixel_dtype

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from abo_vqa.config import CheckpointConfig, ComputeConfig


class Clip(VQAModel):
    """The candidate whose sentence "Question: … Answer: candidate" is closest to the picture.

    Nearly all the work is text: questions times candidates. It is done once a distinct question,
    and rows with the same question share a batch.
    """

    groups_by: ClassVar[str] = "question"
    smaller = ("dtype",)

    def __init__(
        self,
        model: Any,
        preprocess: Any,
        tokenizer: Any,
        checkpoint: CheckpointConfig,
        device: Any,
        candidates: Sequence[str],
    ) -> None:
        self.model = model
        self.preprocess = preprocess
        self.checkpoint = checkpoint
        self.device = device
        self.candidates = list(candidates)
        self.text = TextTower(model, tokenizer)

    @classmethod
    def load(
        cls, checkpoint: CheckpointConfig, compute: ComputeConfig, candidates: Sequence[str] = ()
    ) -> Clip:
        """Load an open_clip model: a local folder, a hub repository, or an architecture's tag."""
        import open_clip

        quiet()
        for name in ("quantize", "device_map"):
            if value := getattr(checkpoint, name):
                raise UserError(
                    f"{checkpoint.path}: {name} is {value}, which open_clip's models don't have. "
                    f"Set {name} to null."
                )
        device = pick_device(compute.device)
        dtype = pick_dtype(checkpoint, compute, device)
        with refusals(checkpoint, too_large(checkpoint, device, dtype, cls.smaller)):
            name, options = _open_clip_name(checkpoint)
            # Unlike its other functions, this one refuses a model without weights.
            model, preprocess = open_clip.create_model_from_pretrained(
                name, device=device, **options
            )
            tokenizer = open_clip.get_tokenizer(name)
        scale = model.logit_scale.detach().to(device, copy=True)
        model = model.to(dtype).eval().requires_grad_(False)
        model.logit_scale.data = scale  # one number: in bfloat16 its exponential is 99, not 100
        return cls(model, preprocess, tokenizer, checkpoint, device, candidates)

    def prepare(self, pictures: Sequence[Image]) -> torch.Tensor:
        """Pixels [P, 3, side, side]."""
        import torch

        pixels = torch.stack([self.preprocess(picture) for picture in pictures])
        return pixels.to(pixel_dtype(self.model.visual))

    def see(self, prepared: torch.Tensor) -> torch.Tensor:
        """Unit features of the pictures: [P, width], float32."""
        import torch

        with torch.inference_mode():
            features: torch.Tensor = self.model.encode_image(prepared.to(self.device))
            return unit(features)

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int]:
        """With the longest choice, or without choices with the candidate of median length.

        One long phrase among thousands of candidates is cut; it mustn't forbid all questions.
        """
        start, _, end = self.checkpoint.prompt.partition("{candidate}")
        heads = self.text.lengths([start.format(question=question) for question in questions])
        if choices is None:
            behind = [self.usual_length] * len(heads)
        else:
            behind = [max(self.text.lengths([c + end for c in some])) for some in choices]
        # Both parts have a start and an end token.
        room = int(self.model.context_length)
        return [head + tail - 2 for head, tail in zip(heads, behind, strict=True)], room

    @cached_property
    def usual_length(self) -> int:
        """Tokens of a candidate and what follows it: the median."""
        _, _, end = self.checkpoint.prompt.partition("{candidate}")
        lengths = sorted(self.text.lengths([c + end for c in self.candidates]))
        return lengths[len(lengths) // 2] if lengths else 2

    def answer_encoded(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        if not self.candidates:
            raise UserError("CLIP chooses among candidate answers, and none are given.")
        answers: list[Answer | None] = [None] * len(questions)
        rows_of: dict[str, list[int]] = {}
        for i, question in enumerate(questions):
            rows_of.setdefault(question, []).append(i)
        for asked, texts in self.sentences(list(rows_of), self.candidates):
            for question, features in zip(asked, texts, strict=True):
                rows = rows_of[question]
                scores = self.scores(encoded, [which[i] for i in rows], features)
                probability, best = scores.softmax(-1).max(-1)  # [rows], [rows]
                for i, p, at in zip(rows, probability.tolist(), best.tolist(), strict=True):
                    answers[i] = Answer(self.candidates[at], p)
        return answers  # type: ignore[return-value]  # every question was asked

    def sentences(
        self, questions: Sequence[str], candidates: Sequence[str]
    ) -> Iterator[tuple[list[str], torch.Tensor]]:
        """Some of the questions at a time, with the features of their candidates' sentences."""
        import torch

        start, _, end = self.checkpoint.prompt.partition("{candidate}")
        # A prompt that goes on behind the candidate: the end belongs to every candidate.
        endings = [candidate + end for candidate in candidates]
        starts = [start.format(question=question) for question in questions]
        with torch.inference_mode():
            for some, features in self.text.pairs(starts, endings):
                yield [questions[i] for i in some], features

    def scores(self, encoded: Any, which: Sequence[int], texts: torch.Tensor) -> torch.Tensor:
        """Scaled cosine similarities of pictures and sentences [texts, width]: [rows, texts].

        In float32 whatever the towers compute in: between 16 and 32, where most similarities lie,
        bfloat16 has steps of 0.125, and among thousands of candidates many would share the first
        place.
        """
        import torch

        with torch.inference_mode():
            seen = encoded[torch.as_tensor(which)].to(texts.device)  # [rows, width]
            similar: torch.Tensor = self.model.logit_scale.exp() * seen.float()
            return similar @ texts.float().T

    def rank_encoded(
        self,
        encoded: Any,
        which: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Log of CLIP's softmax over the choices."""
        ranked = []
        for place, question, options in zip(which, questions, choices, strict=True):
            _, texts = next(self.sentences([question], options))
            scores = self.scores(encoded, [place], texts[0])  # [1, options]
            ranked.append(scores[0].log_softmax(-1).tolist())
        return ranked

    def record(self) -> dict[str, Any]:
        return {
            **describe(self.checkpoint, self.model),
            "architecture": self.checkpoint.architecture or "",
            "prompt": self.checkpoint.prompt,
            "decoding": f"most similar of {len(self.candidates)} candidates",
        }


def _open_clip_name(checkpoint: CheckpointConfig) -> tuple[str, dict[str, Any]]:
    """The name and options by which open_clip finds the weights.

    A local folder; an architecture with weights from a hub repository (at its revision) or with
    one of open_clip's own tags; or a hub repository that describes its architecture itself.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    path, revision = checkpoint.path, checkpoint.revision
    if Path(path).is_dir():
        return f"local-dir:{path}", {}
    require_room(path, revision)
    fetched = {"revision": revision, **hub_options(path)}
    if checkpoint.architecture is None:
        return f"local-dir:{snapshot_download(path, **fetched)}", {}
    if "/" in path:
        weights = hf_hub_download(path, "open_clip_model.safetensors", **fetched)
        return checkpoint.architecture, {"pretrained": weights}
    # OpenAI's weights were trained with the quick approximation of GELU.
    quick = path == "openai"
    return checkpoint.architecture, {"pretrained": path, "force_quick_gelu": quick}
