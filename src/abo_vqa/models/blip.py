"""BLIP for visual question answering (Li et al., 2022, arXiv:2201.12086)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.models.base import Answer, VQAModel, by_length
from abo_vqa.models.decoding import greedy
from abo_vqa.models.loading import describe, load_pretrained, load_processor

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from abo_vqa.config import Checkpoint, Compute


class Blip(VQAModel):
    """Vision tower → question encoder, which looks at the picture → answer decoder.

    The vision tower doesn't see the question, so its output is computed once a picture, and may
    come from `abo_vqa.embed`. Questions of equal length share a batch: transformers' BLIP doesn't
    pass the mask of the question's padding on to cross-attention, so padding changes answers.
    """

    def __init__(self, model: Any, processor: Any, checkpoint: Checkpoint, device: Any) -> None:
        self.model = model
        self.processor = processor
        self.checkpoint = checkpoint
        self.device = device

    @classmethod
    def load(cls, checkpoint: Checkpoint, compute: Compute, adapter: Path | None = None) -> Blip:
        """Load the weights; with `adapter`, a PEFT folder, merged into them in float32."""
        from transformers import BlipForQuestionAnswering, BlipProcessor

        model, device = load_pretrained(BlipForQuestionAnswering, checkpoint, compute)
        processor = load_processor(BlipProcessor, checkpoint)
        if adapter is not None:
            from peft import PeftModel

            dtype = next(model.parameters()).dtype
            merged = PeftModel.from_pretrained(model.float(), str(adapter)).merge_and_unload()
            model = merged.to(dtype).eval().requires_grad_(False)
        return cls(model, processor, checkpoint, device)

    def encode(self, pictures: Sequence[Image]) -> torch.Tensor:
        """The vision tower's output: [P, tokens, width]."""
        import torch

        pixels = self.processor.image_processor(images=list(pictures), return_tensors="pt")
        pixels = pixels["pixel_values"].to(self.device, self.model.dtype)
        with torch.inference_mode():
            seen: torch.Tensor = self.model.vision_model(pixels).last_hidden_state
        return seen

    def answer_encoded(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        import torch

        tokens = self.processor.tokenizer(list(questions))["input_ids"]
        answers: list[Answer | None] = [None] * len(questions)
        for group in by_length([len(t) for t in tokens]):
            with torch.inference_mode():
                states = self.read(encoded, [which[i] for i in group], [tokens[i] for i in group])
                said = self.say(states)
            for i, (ids, probability) in zip(group, said, strict=True):
                text = self.processor.decode(ids, skip_special_tokens=True).strip()
                answers[i] = Answer(text, probability)
        return answers  # type: ignore[return-value]  # every position is in a group

    def read(
        self, encoded: Any, which: Sequence[int], tokens: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Question states [B, L, width] of B questions of equal length about their pictures."""
        import torch

        ids = torch.tensor(tokens, device=self.device)  # [B, L]
        seen = encoded[torch.as_tensor(which)].to(self.device, self.model.dtype)  # [B, tokens, W]
        states: torch.Tensor = self.model.text_encoder(
            input_ids=ids, encoder_hidden_states=seen
        ).last_hidden_state
        return states

    def say(self, states: torch.Tensor) -> list[tuple[list[int], float]]:
        """Answer tokens and their probability from question states [B, L, width]."""
        import torch

        decoder = self.model.text_decoder
        start = torch.full(
            (len(states), 1), self.model.decoder_start_token_id, device=states.device
        )
        cache = None

        def step(ids: torch.Tensor) -> torch.Tensor:
            nonlocal cache
            out = decoder(
                input_ids=ids,
                encoder_hidden_states=states,
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            logits: torch.Tensor = out.logits[:, -1]
            return logits

        ends = {self.model.config.text_config.sep_token_id}
        return greedy(step(start), step, ends, self.checkpoint.max_new_tokens)

    def rank_encoded(
        self,
        encoded: Any,
        which: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum of the log-probabilities of a choice's tokens and of the end token after them."""
        import torch

        tokens = self.processor.tokenizer(list(questions))["input_ids"]
        end = self.model.config.text_config.sep_token_id
        ranked = []
        for row, place, options in zip(tokens, which, choices, strict=True):
            with torch.inference_mode():
                states = self.read(encoded, [place], [row])  # [1, L, width]
                spelled = self.processor.tokenizer(list(options), add_special_tokens=False)
                scores = [self.log_likelihood(states, [*s, end]) for s in spelled["input_ids"]]
            ranked.append(scores)
        return ranked

    def log_likelihood(self, states: torch.Tensor, answer: Sequence[int]) -> float:
        """Log-probability of the answer's tokens, the end token among them, given states."""
        import torch

        ids = [self.model.decoder_start_token_id, *answer]
        given = torch.tensor([ids[:-1]], device=states.device)
        logits = self.model.text_decoder(
            input_ids=given, encoder_hidden_states=states, use_cache=False
        ).logits[0]  # [answer, V]
        wanted = torch.tensor(answer, device=states.device)[:, None]
        return float(logits.float().log_softmax(-1).gather(1, wanted).double().sum())

    def record(self) -> dict[str, Any]:
        return {
            **describe(self.checkpoint, self.model),
            "prompt": "{question}",
            "decoding": f"greedy, at most {self.checkpoint.max_new_tokens} tokens",
        }
