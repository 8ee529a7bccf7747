"""Writing longer texts about images: the contract, and sampling that doesn't depend on the batch.

The library's `generate` decodes. It draws from one random generator for the whole batch, so that a
text would depend on its neighbours; here each text has random numbers of its own.

Shapes: B prompts of up to L tokens; vocabulary V.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from abo_vqa.models.base import VQAModel
from abo_vqa.models.decoding import end_tokens_of, truncate

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin


_REASONING = ("<think>", "</think>")  # as Qwen, GLM, InternVL and others write it
_PROMPT_END = 8  # tokens that "<think>" and a line end may take


@dataclass(frozen=True)
class WritingOptions:
    """How texts are decoded.

    Attributes:
        max_new_tokens: maximum number of tokens of a text, the end token included.
        temperature: 0 takes the most probable token; otherwise tokens are drawn.
    """

    max_new_tokens: int
    temperature: float


@dataclass(frozen=True)
class WrittenText:
    """What a model has written.

    Attributes:
        text: the text, without special tokens and without the reasoning before it.
        finish: "STOP" if the model ended it, "MAX_TOKENS" if it was cut off.
        input_tokens: length of the prompt, the image's tokens included.
        output_tokens: length of the text, the end token included.
        error: why there is no text, or "".
    """

    text: str
    finish: str = "STOP"
    input_tokens: int = 0
    output_tokens: int = 0
    error: str = ""


class TextWriter(VQAModel, ABC):
    """A model that follows an instruction about an image and writes more than an answer."""

    @abstractmethod
    def write(
        self,
        encoded: Sequence[Any],
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: WritingOptions,
    ) -> list[WrittenText]:
        """Write a text about each image, as the prompt asks.

        Up to rounding, a text doesn't depend on the other rows of the batch. Special tokens in a
        prompt are taken for ordinary words.

        Args:
            encoded: B entries of the result of `encode`.
            prompts: B prompts.
            seeds: B numbers that decide what is drawn.
            options: how to decode.

        Returns:
            B texts.
        """


class _SeededSampling(LogitsProcessor):  # type: ignore[misc]  # transformers is untyped here
    """Draws each row's next token by a random number of that row and step, and forbids the others.

    Args:
        seeds: B seeds.
        options: the temperature and the number of steps.
        prompt_length: L.
    """

    def __init__(self, seeds: Sequence[int], options: WritingOptions, prompt_length: int) -> None:
        self._temperature, self._prompt_length = options.temperature, prompt_length
        rows = [torch.Generator().manual_seed(seed) for seed in seeds]
        draws = [
            torch.rand(options.max_new_tokens, generator=row, dtype=torch.float64) for row in rows
        ]
        self._draws = torch.stack(draws)  # [B, steps]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores [B, V] in which one token of each row is possible."""
        step = input_ids.shape[1] - self._prompt_length
        draws = self._draws[:, step, None].to(scores.device)  # [B, 1]
        # Tokens are drawn by where a number falls among the summed probabilities.
        sums = (scores.float() / self._temperature).softmax(-1).double().cumsum(-1)  # [B, V]
        tokens = torch.searchsorted(sums, draws * sums[:, -1:], right=True)
        tokens = tokens.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0)


def continue_prompts(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    inputs: Mapping[str, Any],
    seeds: Sequence[int],
    options: WritingOptions,
) -> list[WrittenText]:
    """Continue prompts with the library's `generate`.

    Args:
        model: a decoder-only model of transformers.
        processor: its processor.
        inputs: arguments of `generate`: `input_ids` [B, L] and `attention_mask` [B, L], padded on
            the left, and what else the model takes.
        seeds: B seeds.
        options: how to decode.
    """
    length, ends = inputs["input_ids"].shape[1], end_tokens_of(model)
    sampling = [_SeededSampling(seeds, options, length)] if options.temperature else []
    pad = model.generation_config.pad_token_id
    with torch.inference_mode():
        sequences = model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            max_new_tokens=options.max_new_tokens,
            eos_token_id=sorted(ends) or None,
            pad_token_id=min(ends, default=None) if pad is None else pad,
            logits_processor=LogitsProcessorList(sampling),
        )
    prompt_lengths = inputs["attention_mask"].sum(1).tolist()
    tokenizer, texts = processor.tokenizer, []
    for row, prompt_length in zip(sequences.tolist(), prompt_lengths, strict=True):
        ids = truncate(row[length:], ends)
        ended = len(ids) < len(row) - length
        text = _without_reasoning(
            tokenizer.decode(ids, skip_special_tokens=True),
            tokenizer.decode(row[length - _PROMPT_END : length]),
        )
        finish = "STOP" if ended else "MAX_TOKENS"
        texts.append(WrittenText(text, finish, prompt_length, len(ids) + ended))
    return texts


def _without_reasoning(text: str, prompt_end: str) -> str:
    """Return what a thinking model writes after its reasoning; "" if that was cut off.

    Args:
        text: the text.
        prompt_end: the end of its prompt: some templates start the reasoning themselves.
    """
    start, end = _REASONING
    if end in text:
        return text.rpartition(end)[2].strip()
    is_reasoning = start in text or prompt_end.rstrip().endswith(start)
    return "" if is_reasoning else text.strip()


def too_long(model: PreTrainedModel, length: int, options: WritingOptions) -> str:
    """Return that a prompt leaves no room for the text, or "".

    Args:
        model: the model.
        length: tokens of the prompt.
        options: how long the text may be.
    """
    maximum = token_limit(model.config)
    return describe_shortage(length, options.max_new_tokens, maximum, "image and text")


def token_limit(config: PretrainedConfig) -> int | None:
    """Return the most tokens that a prompt and its continuation may have, or None: any number."""
    maximum: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return maximum


def describe_shortage(length: int, max_new_tokens: int, maximum: int | None, content: str) -> str:
    """Return that a prompt and its continuation may have too many tokens, or "".

    Args:
        length: tokens of the prompt.
        max_new_tokens: those of the longest continuation; the last one isn't read by the model.
        maximum: the result of `token_limit`.
        content: what the prompt's tokens are, in the plural.
    """
    if maximum is None or length + max_new_tokens - 1 <= maximum:
        return ""
    return (
        f"the prompt is too long: {content} take {length:,} tokens, the reply may take "
        f"{max_new_tokens:,}, and the model has room for {maximum:,}"
    )


def without_special_tokens(text: str, processor: ProcessorMixin) -> str:
    """Return a text in which no special token is recognised: each gets a space after its start.

    Otherwise a text could end the user's turn, or stand for an image.

    Args:
        text: the text.
        processor: whose tokens they are.
    """
    for token in _special_tokens(processor):
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


@lru_cache(maxsize=2)
def _special_tokens(processor: ProcessorMixin) -> list[str]:
    """Return the special tokens, the longest first; some tokenizers list thousands to find them."""
    added = processor.tokenizer.added_tokens_decoder.values()
    special = {str(token) for token in added if token.special}
    special |= {*map(str, processor.tokenizer.all_special_tokens)}
    special |= {*map(str, processor.all_special_multimodal_tokens)}
    return sorted((token for token in special if len(token) > 1), key=len, reverse=True)
