"""BLIP for visual question answering (Li et al., 2022, arXiv:2201.12086)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.base import Answer, VQAModel, by_length, longest
from abo_vqa.models.blip.absorbed import look_cheaply
from abo_vqa.models.blip.answer import AnswerSteps
from abo_vqa.models.blip.attention import answer_logits, read_questions
from abo_vqa.models.blip.vision import see
from abo_vqa.models.decoding import greedy
from abo_vqa.models.loading import describe, load_pretrained, load_processor
from abo_vqa.models.pixels import pixel_dtype, pixel_values

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from abo_vqa.config import CheckpointConfig, ComputeConfig


class Blip(VQAModel):
    """Vision tower → question encoder, which looks at the picture → answer decoder.

    The vision tower doesn't see the question, so its output is computed once a picture, and may
    come from `abo_vqa.stages.embed`. Attention and decoding are ours (`blip_vision`, `blip_attention`,
    `blip_answer`): transformers' BLIP drops the mask of the question's padding, so that padding
    changes answers, and projects the picture's tokens anew for every question.
    """

    smaller: tuple[str, ...] = ("dtype", "quantize")

    def __init__(
        self, model: Any, processor: Any, checkpoint: CheckpointConfig, device: Any
    ) -> None:
        self.model = model
        self.processor = processor
        self.checkpoint = checkpoint
        self.device = device
        self.dtype = pixel_dtype(model)

    @classmethod
    def load(
        cls,
        checkpoint: CheckpointConfig,
        compute: ComputeConfig,
        adapter: Path | None = None,
        dtype: torch.dtype | None = None,
    ) -> Blip:
        """Load the weights; with `adapter`, a PEFT folder, all of it in float32.

        What an adapter adds is often smaller than the steps of half precision.

        Args:
            dtype: of the weights, whatever the settings say.
        Raises:
            UserError: a checkpoint or an adapter can't be loaded, or they don't belong together.
        """
        import torch
        from transformers import BlipForQuestionAnswering, BlipProcessor

        found = None if adapter is None else Adapter.read(adapter)
        if found is not None:
            found.check_base(checkpoint)
            dtype = torch.float32
        # Our attention takes the layers apart, past what would carry states between devices.
        spread = UserError(
            f"{checkpoint.path}: device_map {checkpoint.device_map} spreads it over several "
            "devices, and BLIP runs on one. Set device_map to null; quantize: 8bit or 4bit "
            "takes less memory."
        )
        if checkpoint.device_map and torch.cuda.device_count() > 1:
            raise spread
        # Where the caller sets the dtype, the profile's does nothing.
        smaller = cls.smaller if dtype is None else ("quantize",)
        model, device = load_pretrained(
            BlipForQuestionAnswering, checkpoint, compute, dtype, smaller
        )
        if len(set(getattr(model, "hf_device_map", {}).values())) > 1:
            raise spread
        processor = load_processor(BlipProcessor, checkpoint)
        if found is not None:
            model = found.attach(model) if checkpoint.quantize else found.merge(model)
            model = model.eval().requires_grad_(False)
        blip = cls(model, processor, checkpoint, device)
        blip.smaller = smaller
        return blip

    def prepare(self, pictures: Sequence[Image]) -> torch.Tensor:
        """Pixels [P, 3, side, side]."""
        return pixel_values(self.processor, pictures, self.dtype)

    def see(self, prepared: torch.Tensor) -> torch.Tensor:
        """The vision tower's output: [P, tokens, width]."""
        import torch

        with torch.inference_mode():
            return see(self.model.vision_model, prepared.to(self.device))

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int]:
        lengths = [len(ids) for ids in self.processor.tokenizer(list(questions))["input_ids"]]
        room: int = self.model.config.text_config.max_position_embeddings
        # The decoder has as many positions for an answer, its start token included.
        for i, options in enumerate(choices or ()):
            lengths[i] = max(lengths[i], longest(self.processor.tokenizer, options) + 1)
        return lengths, room

    def answer_encoded(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        import torch

        answers: list[Answer | None] = [None] * len(questions)
        with torch.inference_mode():
            for group, states, mask in self.read(encoded, which, questions):
                start = self.model.decoder_start_token_id
                step = AnswerSteps(self.model.text_decoder, states, mask)
                first = step(torch.full((len(group), 1), start, device=self.device))
                said = greedy(first, step, {self.end}, self.checkpoint.max_new_tokens)
                for i, (ids, probability) in zip(group, said, strict=True):
                    text = self.processor.decode(ids, skip_special_tokens=True).strip()
                    answers[i] = Answer(text, probability)
        return answers  # type: ignore[return-value]  # every position is in a group

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return int(self.model.config.text_config.sep_token_id)

    def read(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Rows whose pictures have equally many questions, their states [B, L, W] and mask [B, L].

        Within a group a picture's questions follow each other, so that the picture's keys and
        values are projected once for all of them.
        """
        import torch

        count = Counter(which)
        for group in by_length([count[place] for place in which]):
            group.sort(key=lambda i: which[i])
            words = self.processor.tokenizer(
                [questions[i] for i in group], padding=True, return_tensors="pt"
            )
            places = sorted({which[i] for i in group})
            pictures = encoded[torch.tensor(places)].to(self.device, self.dtype)
            at = {place: n for n, place in enumerate(places)}
            mine = torch.tensor([at[which[i]] for i in group])
            ids, mask = words["input_ids"].to(self.device), words["attention_mask"]
            states = read_questions(
                self.model.text_encoder, ids, mask, pictures, mine, look_cheaply
            )
            yield group, states, mask

    def rank_encoded(
        self,
        encoded: Any,
        which: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum of the log-probabilities of a choice's tokens and of the end token after them."""
        import torch

        ranked: list[list[float]] = [[] for _ in questions]
        with torch.inference_mode():
            for group, states, mask in self.read(encoded, which, questions):
                for row, i in enumerate(group):
                    ranked[i] = self.log_likelihoods(states[row], mask[row], choices[i])
        return ranked

    def log_likelihoods(
        self, states: torch.Tensor, mask: torch.Tensor, choices: Sequence[str]
    ) -> list[float]:
        """Log-probability of each choice and its end, given one question's states [L, W]."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        spelled = self.processor.tokenizer(list(choices), add_special_tokens=False)["input_ids"]
        wanted = pad_sequence([torch.tensor([*s, self.end]) for s in spelled], True, -100)  # [C, A]
        wanted = wanted.to(self.device)
        start = torch.full_like(wanted[:, :1], self.model.decoder_start_token_id)
        given = torch.cat([start, wanted[:, :-1].clamp(min=0)], dim=1)
        count = len(wanted)
        logits = answer_logits(
            self.model.text_decoder, given, states.expand(count, -1, -1), mask.expand(count, -1)
        )  # [C, A, V]
        log_p = logits.float().log_softmax(-1).gather(2, wanted.clamp(min=0)[..., None])[..., 0]
        scores: list[float] = log_p.double().where(wanted != -100, 0.0).sum(1).tolist()
        return scores

    def record(self) -> dict[str, Any]:
        return {
            **describe(self.checkpoint, self.model),
            "prompt": "{question}",
            "decoding": f"greedy, at most {self.checkpoint.max_new_tokens} tokens",
        }
