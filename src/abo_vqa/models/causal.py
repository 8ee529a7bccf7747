"""What BLIP-2 and LLaVA share: a language model that continues a prompt starting with the image.

Prefill and decoding are this project's own instead of `generate` of transformers, so that the image
and what precedes the question are prefilled once per image, and their KV cache is shared by all of
its questions (docs/benchmarks.md, "On a GPU").

Shapes: B questions about N images of T tokens; prompts of L tokens; width W of the language model.
"""

from __future__ import annotations

import string
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abo_vqa.models.base import Answer, max_token_count
from abo_vqa.models.decoding import end_tokens_of, greedy
from abo_vqa.models.pixels import pixel_dtype, process_images
from abo_vqa.models.pretrained import PretrainedVQAModel
from abo_vqa.models.record import checkpoint_record

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Cache, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutputWithPast


class CausalVQAModel(PretrainedVQAModel):
    """A decoder-only language model whose prompt starts with the image's tokens."""

    @property
    @abstractmethod
    def decoder(self) -> PreTrainedModel:
        """The module that turns embeddings into logits."""

    @property
    @abstractmethod
    def num_image_tokens(self) -> int:
        """T, the number of prompt tokens that an image takes."""

    @abstractmethod
    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Project pixel values [N, 3, height, width] into the language model's space [N, T, W]."""

    @abstractmethod
    def tokenize_prompts(self, prompts: Sequence[str], num_image_tokens: int) -> list[list[int]]:
        """Tokenize prompts, with image placeholders where the library puts them.

        Args:
            prompts: B prompts.
            num_image_tokens: T, the number of placeholders in each prompt.

        Returns:
            The token ids of each prompt.
        """

    def preprocess(self, images: Sequence[Image]) -> Tensor:
        """Return pixel values [N, 3, height, width]."""
        return process_images(self.processor, images, pixel_dtype(self.model))

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Return image tokens in the language model's space, [N, T, W]."""
        with torch.inference_mode():
            return self.image_features(pixel_values.to(self.device))

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int]:
        """Count the tokens of the prompts, including the image's and those of the answer."""
        lengths = [len(ids) for ids in self.build_prompts(questions, self.num_image_tokens)]
        if choices is None:
            # The last new token isn't fed back.
            answers = [self.checkpoint.max_new_tokens - 1] * len(lengths)
        else:
            tokenizer = self.processor.tokenizer
            answers = [
                max_token_count(tokenizer, [f" {c}" for c in options]) for options in choices
            ]
        maximum: int = self.decoder.config.get_text_config().max_position_embeddings
        return [prompt + answer for prompt, answer in zip(lengths, answers, strict=True)], maximum

    def predict_answers(
        self, encoded: Tensor, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Continue the prompts greedily; `encoded` is [N, T, W]."""
        prompts = self.build_prompts(questions, encoded.shape[1])
        with torch.inference_mode():
            decoded = self._generate(encoded, image_index, prompts)
        answers = []
        for ids, probability in decoded:
            text = self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
            answers.append(Answer(self.extract_answer(text), probability))
        return answers

    def score_choices(
        self,
        encoded: Tensor,
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum the log-probabilities of each choice's tokens after the prompt.

        The end token isn't counted: these models weren't trained to stop after a word.
        """
        scores = []
        prompts = self.build_prompts(questions, encoded.shape[1])
        for image, prompt, options in zip(image_index, prompts, choices, strict=True):
            tokens: list[list[int]] = self.processor.tokenizer(
                [f" {c}" for c in options], add_special_tokens=False
            )["input_ids"]
            longest = max(map(len, tokens))
            with torch.inference_mode():
                rows = [[*prompt, *ids] for ids in tokens]
                logits, _, _ = self._prefill(encoded, [image] * len(rows), rows, longest + 1)
                log_probs = logits.float().log_softmax(-1).double()  # [C, longest + 1, vocabulary]
            # Rows are padded on the left: a choice of n tokens is predicted by the last n + 1
            # positions but one.
            scores.append(
                [
                    sum(float(row[i - len(ids) - 1, token]) for i, token in enumerate(ids))
                    for row, ids in zip(log_probs, tokens, strict=True)
                ]
            )
        return scores

    def record(self) -> dict[str, Any]:
        """Return the checkpoint, the prompt and the way of decoding."""
        longest = self.checkpoint.max_new_tokens
        return {
            **checkpoint_record(self.checkpoint, self.model),
            "prompt": self.checkpoint.prompt,
            "decoding": f"greedy, at most {longest} tokens, answer: {self.checkpoint.answer}",
        }

    def build_prompts(self, questions: Sequence[str], num_image_tokens: int) -> list[list[int]]:
        """Put the questions into the checkpoint's prompt and tokenize them."""
        prompts = [self.checkpoint.prompt.format(question=question) for question in questions]
        return self.tokenize_prompts(prompts, num_image_tokens)

    def extract_answer(self, text: str) -> str:
        """Return all of the generated text, or its last word without punctuation."""
        if self.checkpoint.answer == "whole":
            return text
        words = text.split()
        return words[-1].strip(string.punctuation) if words else ""

    def _generate(
        self, encoded: Tensor, image_index: Sequence[int], prompts: Sequence[Sequence[int]]
    ) -> list[tuple[list[int], float]]:
        """Continue each prompt greedily.

        Args:
            encoded: [N, T, W], the image tokens.
            image_index: each prompt's image.
            prompts: B prompts' token ids.

        Returns:
            For each prompt the new tokens and their probability.
        """
        logits, cache, mask = self._prefill(encoded, image_index, prompts)

        def decode_step(input_ids: Tensor) -> Tensor:
            nonlocal cache, mask
            position_ids = mask.sum(1, keepdim=True)  # [B, 1]
            mask = torch.cat([mask, mask.new_ones(len(input_ids), 1)], dim=1)
            embeds = self.decoder.get_input_embeddings()(input_ids)  # [B, 1, W]
            output = self._forward(embeds, mask, position_ids, cache)
            cache = output.past_key_values
            last: Tensor = output.logits[:, -1]
            return last

        ends = end_tokens_of(self.decoder)
        return greedy(logits[:, -1], decode_step, ends, self.checkpoint.max_new_tokens)

    def _prefill(
        self,
        encoded: Tensor,
        image_index: Sequence[int],
        prompts: Sequence[Sequence[int]],
        logits_to_keep: int = 1,
    ) -> tuple[Tensor, Cache, Tensor]:
        """Run the prompts through the language model, their common prefix once per image.

        Args:
            encoded: [N, T, W], the image tokens.
            image_index: each prompt's image.
            prompts: B prompts' token ids.
            logits_to_keep: K, the number of last positions whose logits are returned.

        Returns:
            Logits [B, K, vocabulary], the KV cache, and the mask [B, L] of its positions: the
            common prefix, padding, the rest of each prompt.
        """
        prefix = _shared_prefix_length(prompts, self.model.config.image_token_id, logits_to_keep)
        cache = None
        if prefix:
            images = sorted(set(image_index))
            embeds, mask = self._embed(encoded, images, [prompts[0][:prefix]] * len(images))
            cache = self._forward(embeds, mask, mask.cumsum(1) - 1, None).past_key_values
            position = {image: i for i, image in enumerate(images)}
            # Indices on the CPU: layers, and so their keys, may be on several GPUs.
            cache.batch_select_indices(torch.tensor([position[image] for image in image_index]))
        embeds, mask = self._embed(encoded, image_index, [prompt[prefix:] for prompt in prompts])
        mask = torch.cat([mask.new_ones(len(mask), prefix), mask], dim=1)  # [B, L]
        position_ids = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix:]
        output = self._forward(embeds, mask, position_ids, cache, logits_to_keep)
        return output.logits[:, -logits_to_keep:], output.past_key_values, mask

    def _forward(
        self,
        embeds: Tensor,
        mask: Tensor,
        position_ids: Tensor,
        cache: Cache | None,
        logits_to_keep: int = 1,
    ) -> CausalLMOutputWithPast:
        """Run the language model on S tokens after the cached ones.

        Args:
            embeds: [B, S, W].
            mask: [B, cached + S], nonzero where positions aren't padding.
            position_ids: [B, S].
            cache: the KV cache of the positions before; None: there are none.
            logits_to_keep: the number of last positions whose logits are needed.
        """
        return self.decoder(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        )

    def _embed(
        self, encoded: Tensor, image_index: Sequence[int], prompts: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts, padded on the left, with the image tokens at their placeholders.

        Args:
            encoded: [N, T, W], the image tokens.
            image_index: each prompt's image.
            prompts: B prompts' token ids.

        Returns:
            Embeddings [B, L, W] and mask [B, L], on the device of the word embeddings, which may be
            another one than the images'.
        """
        longest = max(map(len, prompts))
        image_token = self.model.config.image_token_id
        pad = int(image_token == 0)  # masked: any token but the image's will do
        input_ids = torch.tensor(
            [[pad] * (longest - len(p)) + list(p) for p in prompts], device=self.device
        )
        embeds = self.decoder.get_input_embeddings()(input_ids)  # [B, L, W]
        mask = torch.tensor(
            [[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=embeds.device
        )
        if any(image_token in p for p in prompts):
            images = encoded[torch.as_tensor(image_index)].to(embeds)  # [B, T, W]
            placeholders = (input_ids == image_token).to(embeds.device)
            embeds = embeds.masked_scatter(placeholders[..., None], images)
        return embeds, mask


def _shared_prefix_length(
    prompts: Sequence[Sequence[int]], image_token: int, logits_to_keep: int
) -> int:
    """Return how many tokens all prompts begin with, the image's tokens included.

    Args:
        prompts: token ids.
        image_token: the id of the image's placeholders.
        logits_to_keep: this many tokens of each prompt stay out of the prefix.

    Returns:
        The length, or 0 if a prompt has more image tokens after it.
    """
    limit = min(map(len, prompts)) - logits_to_keep
    first = prompts[0]
    length = 0
    while length < limit and all(prompt[length] == first[length] for prompt in prompts):
        length += 1
    if length <= 0 or any(image_token in prompt[length:] for prompt in prompts):
        return 0
    return length
