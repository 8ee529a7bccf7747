"""What BLIP-2 and LLaVA share: image tokens before a prompt, continued by a language model."""

from __future__ import annotations

import string
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.models.base import Answer, VQAModel
from abo_vqa.models.decoding import end_tokens, greedy
from abo_vqa.models.loading import describe

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from abo_vqa.config import Checkpoint


class ImagePrompted(VQAModel):
    """A decoder-only language model whose prompt starts with the picture.

    The image tokens and what precedes the question are read once a picture, and their keys and
    values are shared by all its questions.
    """

    def __init__(self, model: Any, processor: Any, checkpoint: Checkpoint, device: Any) -> None:
        self.model = model
        self.processor = processor
        self.checkpoint = checkpoint
        self.device = device

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """The part that takes embeddings and gives logits."""

    @abstractmethod
    def image_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [P, 3, height, width] → tokens for the language model [P, N, width]."""

    @abstractmethod
    def prompt_tokens(self, prompts: Sequence[str], count: int) -> list[list[int]]:
        """Token ids of each prompt, with `count` image placeholders where the library puts them."""

    def encode(self, pictures: Sequence[Image]) -> torch.Tensor:
        """Image tokens in the language model's space: [P, N, width]."""
        import torch

        pixels = self.processor.image_processor(images=list(pictures), return_tensors="pt")
        with torch.inference_mode():
            return self.image_tokens(pixels["pixel_values"].to(self.device, self.model.dtype))

    def answer_encoded(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        import torch

        prompts = self.prompts(questions, encoded)
        with torch.inference_mode():
            said = self.say(encoded, which, prompts)
        answers = []
        for ids, probability in said:
            text = self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
            answers.append(Answer(self.cut(text), probability))
        return answers

    def prompts(self, questions: Sequence[str], encoded: Any) -> list[list[int]]:
        """Token ids of each question's prompt."""
        texts = [self.checkpoint.prompt.format(question=q) for q in questions]
        return self.prompt_tokens(texts, encoded.shape[1])

    def cut(self, text: str) -> str:
        """The answer within what was said: all of it, or its last word without punctuation."""
        if self.checkpoint.answer == "whole":
            return text
        words = text.split()
        return words[-1].strip(string.punctuation) if words else ""

    def say(
        self, encoded: Any, which: Sequence[int], prompts: Sequence[Sequence[int]]
    ) -> list[tuple[list[int], float]]:
        """Continue each prompt greedily; tokens and their probability."""
        import torch

        embeds, mask = self.embed(encoded, which, prompts)
        cache = None

        def step(ids: torch.Tensor | None) -> torch.Tensor:
            nonlocal cache, mask
            if ids is None:
                given, positions = embeds, (mask.cumsum(1) - 1).clamp(min=0)
            else:
                given = self.decoder.get_input_embeddings()(ids)
                positions = mask.sum(1, keepdim=True)
                mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
            out = self.decoder(
                inputs_embeds=given,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            logits: torch.Tensor = out.logits[:, -1]
            return logits

        first = step(None)
        return greedy(first, step, end_tokens(self.decoder), self.checkpoint.max_new_tokens)

    def embed(
        self, encoded: Any, which: Sequence[int], prompts: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedded prompts, padded on the left, and their mask: [B, L, width] and [B, L]."""
        import torch

        longest = max(map(len, prompts))
        image = self.model.config.image_token_id
        pad = int(image == 0)  # masked: any id but the picture's will do
        ids = torch.tensor(
            [[pad] * (longest - len(p)) + list(p) for p in prompts], device=self.device
        )
        mask = torch.tensor(
            [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self.device
        )
        embeds = self.decoder.get_input_embeddings()(ids)  # [B, L, width]
        seen = encoded[torch.as_tensor(which)].to(embeds)  # [B, N, width]
        return embeds.masked_scatter((ids == image)[..., None], seen), mask

    def rank_encoded(
        self,
        encoded: Any,
        which: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum of the log-probabilities of a choice's tokens after the prompt.

        The end token isn't counted: these models weren't trained to stop after a word.
        """
        import torch

        prompts = self.prompts(questions, encoded)
        ranked = []
        for place, prompt, options in zip(which, prompts, choices, strict=True):
            with torch.inference_mode():
                ranked.append([self.log_likelihood(encoded, place, prompt, c) for c in options])
        return ranked

    def log_likelihood(self, encoded: Any, place: int, prompt: Sequence[int], choice: str) -> float:
        """Log-probability that the prompt about picture `place` goes on with `choice`."""
        import torch

        spelled = self.processor.tokenizer(" " + choice, add_special_tokens=False)["input_ids"]
        embeds, mask = self.embed(encoded, [place], [[*prompt, *spelled]])
        out = self.decoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
        logits = out.logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)  # [choice, V]
        wanted = torch.tensor(spelled, device=logits.device)[:, None]
        return float(logits.gather(1, wanted).double().sum())

    def record(self) -> dict[str, Any]:
        longest = self.checkpoint.max_new_tokens
        return {
            **describe(self.checkpoint, self.model),
            "prompt": self.checkpoint.prompt,
            "decoding": f"greedy, at most {longest} tokens, answer: {self.checkpoint.answer}",
        }
