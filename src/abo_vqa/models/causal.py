"""What BLIP-2 and LLaVA share: image tokens before a prompt, continued by a language model."""

from __future__ import annotations

import string
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.models.base import Answer, VQAModel, longest
from abo_vqa.models.decoding import end_tokens, greedy
from abo_vqa.models.loading import describe
from abo_vqa.models.pixels import pixel_dtype, pixel_values

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from abo_vqa.config import CheckpointConfig


class ImagePrompted(VQAModel):
    """A decoder-only language model whose prompt starts with the picture.

    The image tokens and what precedes the question are read once a picture, and their keys and
    values are shared by all its questions.
    """

    def __init__(
        self, model: Any, processor: Any, checkpoint: CheckpointConfig, device: Any
    ) -> None:
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

    def prepare(self, pictures: Sequence[Image]) -> torch.Tensor:
        """Pixels [P, 3, height, width]."""
        return pixel_values(self.processor, pictures, pixel_dtype(self.model))

    def see(self, prepared: torch.Tensor) -> torch.Tensor:
        """Image tokens in the language model's space: [P, N, width]."""
        import torch

        with torch.inference_mode():
            return self.image_tokens(prepared.to(self.device))

    def answer_encoded(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        import torch

        prompts = self.prompts(questions, encoded.shape[1])
        with torch.inference_mode():
            said = self.say(encoded, which, prompts)
        answers = []
        for ids, probability in said:
            text = self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
            answers.append(Answer(self.cut(text), probability))
        return answers

    def prompts(self, questions: Sequence[str], count: int) -> list[list[int]]:
        """Token ids of each question's prompt with `count` tokens of a picture."""
        texts = [self.checkpoint.prompt.format(question=q) for q in questions]
        return self.prompt_tokens(texts, count)

    @property
    @abstractmethod
    def picture_tokens(self) -> int:
        """How many tokens a picture takes in the prompt."""

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int]:
        """Lengths of the prompts, the picture and what is said behind it included."""
        lengths = [len(ids) for ids in self.prompts(questions, self.picture_tokens)]
        if choices is None:
            said = [self.checkpoint.max_new_tokens - 1] * len(lengths)  # the last isn't read again
        else:
            tokenizer = self.processor.tokenizer
            said = [longest(tokenizer, [f" {c}" for c in options]) for options in choices]
        room: int = self.decoder.config.get_text_config().max_position_embeddings
        return [prompt + more for prompt, more in zip(lengths, said, strict=True)], room

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

        logits, cache, mask = self.read(encoded, which, prompts)

        def step(ids: torch.Tensor) -> torch.Tensor:
            nonlocal cache, mask
            places = mask.sum(1, keepdim=True)
            mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
            embeds = self.decoder.get_input_embeddings()(ids)
            out = self.run(embeds, mask, places, cache)
            cache = out.past_key_values
            return out.logits[:, -1]  # type: ignore[no-any-return]

        ends = end_tokens(self.decoder)
        return greedy(logits[:, -1], step, ends, self.checkpoint.max_new_tokens)

    def read(
        self,
        encoded: Any,
        which: Sequence[int],
        prompts: Sequence[Sequence[int]],
        keep: int = 1,
    ) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Read B prompts, what they have in common only once a picture.

        Returns:
            Logits [B, keep, V] at the last `keep` tokens, the cache of keys and values, and the
            mask [B, L] of what it holds: the common start, padding, the rest of each prompt.
        """
        import torch

        common = _shared_start(prompts, self.model.config.image_token_id, keep)
        cache = None
        if common:
            pictures = sorted(set(which))
            embeds, mask = self.embed(encoded, pictures, [prompts[0][:common]] * len(pictures))
            cache = self.run(embeds, mask, mask.cumsum(1) - 1, None).past_key_values
            at = {place: n for n, place in enumerate(pictures)}
            # On the CPU: the layers, hence their keys, may lie on several cards.
            cache.batch_select_indices(torch.tensor([at[place] for place in which]))
        embeds, mask = self.embed(encoded, which, [prompt[common:] for prompt in prompts])
        mask = torch.cat([mask.new_ones(len(mask), common), mask], dim=1)  # [B, L]
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, common:]
        out = self.run(embeds, mask, places, cache, keep)
        return out.logits[:, -keep:], out.past_key_values, mask

    def run(
        self,
        embeds: torch.Tensor,
        mask: torch.Tensor,
        places: torch.Tensor,
        cache: Any,
        keep: int = 1,
    ) -> Any:
        """The language model on embeddings [B, S, width] at `places` [B, S], behind the cache."""
        return self.decoder(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )

    def embed(
        self, encoded: Any, which: Sequence[int], prompts: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedded prompts, padded on the left, and their mask: [B, L, width] and [B, L].

        Both are where the word embeddings are: on another card than the pictures, perhaps.
        """
        import torch

        longest = max(map(len, prompts))
        image = self.model.config.image_token_id
        pad = int(image == 0)  # masked: any id but the picture's will do
        ids = torch.tensor(
            [[pad] * (longest - len(p)) + list(p) for p in prompts], device=self.device
        )
        embeds = self.decoder.get_input_embeddings()(ids)  # [B, L, width]
        mask = torch.tensor(
            [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=embeds.device
        )
        if any(image in p for p in prompts):
            seen = encoded[torch.as_tensor(which)].to(embeds)  # [B, N, width]
            holes = (ids == image).to(embeds.device)
            embeds = embeds.masked_scatter(holes[..., None], seen)
        return embeds, mask

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

        ranked = []
        prompts = self.prompts(questions, encoded.shape[1])
        for place, prompt, options in zip(which, prompts, choices, strict=True):
            spelled = self.processor.tokenizer([f" {c}" for c in options], add_special_tokens=False)
            words: list[list[int]] = spelled["input_ids"]
            longest = max(map(len, words))
            with torch.inference_mode():
                rows = [[*prompt, *word] for word in words]
                logits, _, _ = self.read(encoded, [place] * len(rows), rows, longest + 1)
                log_p = logits.float().log_softmax(-1).double()  # [choices, longest + 1, V]
            ranked.append(
                [
                    sum(float(row[at - len(word) - 1, token]) for at, token in enumerate(word))
                    for row, word in zip(log_p, words, strict=True)
                ]
            )
        return ranked

    def record(self) -> dict[str, Any]:
        longest = self.checkpoint.max_new_tokens
        return {
            **describe(self.checkpoint, self.model),
            "prompt": self.checkpoint.prompt,
            "decoding": f"greedy, at most {longest} tokens, answer: {self.checkpoint.answer}",
        }


def _shared_start(prompts: Sequence[Sequence[int]], image: int, keep: int) -> int:
    """How many tokens all prompts begin with alike, the picture's among them.

    0 if a prompt goes on to more of the picture behind that; at least `keep` tokens stay outside.
    """
    least = min(map(len, prompts)) - keep
    first = prompts[0]
    common = 0
    while common < least and all(prompt[common] == first[common] for prompt in prompts):
        common += 1
    if common <= 0 or any(image in prompt[common:] for prompt in prompts):
        return 0
    return common
