"""Decoder-only models that were trained to follow instructions: they also write longer texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch

from abo_vqa.core.errors import UserError
from abo_vqa.models.causal.model import CausalVQAModel
from abo_vqa.models.causal.prefill import Prompt, like_lengths, make_segment
from abo_vqa.models.causal.prompts import ChatPromptBuilder, PromptBuilder
from abo_vqa.models.decoding import end_tokens_of
from abo_vqa.models.encoded import EncodedImage
from abo_vqa.models.writing import (
    TextWriter,
    WritingOptions,
    WrittenText,
    continue_prompts,
    too_long,
    without_special_tokens,
)


class InstructedModel(CausalVQAModel, TextWriter):
    """Answers questions with the checkpoint's prompt, and writes what a text asks for.

    Attributes:
        instruction_format: the prompt around an instruction for checkpoints without a template.
    """

    instruction_format: ClassVar[str] = "{question}"

    @cached_property
    def instructions(self) -> PromptBuilder:
        """Writes instructions as prompts: in the chat template if there is one.

        Raises:
            UserError: the chat template has no place for one image.
        """
        has_template = self.processor.chat_template or self.processor.tokenizer.chat_template
        builder = ChatPromptBuilder if has_template else PromptBuilder
        text = "{question}" if has_template else self.instruction_format
        prompts = builder(self.processor, text, end_tokens_of(self.decoder))
        if problem := prompts.problem():
            raise UserError(f"{self.checkpoint.path}: {problem}.")
        return prompts

    def write(
        self,
        encoded: Sequence[EncodedImage],
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: WritingOptions,
    ) -> list[WrittenText]:
        """Write a text about each image, those whose prompts are of like lengths together."""
        requests = [
            self.make_prompt(
                image.layout, without_special_tokens(prompt, self.processor), self.instructions
            )
            for image, prompt in zip(encoded, prompts, strict=True)
        ]
        errors = [too_long(self.model, len(prompt.ids), options) for prompt in requests]
        texts = {row: WrittenText("", error=error) for row, error in enumerate(errors) if error}
        fitting = [row for row, error in enumerate(errors) if not error]
        for group in like_lengths([requests[row] for row in fitting], equal=False):
            rows = [fitting[position] for position in group]
            inputs = self._inputs([requests[row] for row in rows], [encoded[row] for row in rows])
            written = continue_prompts(
                self.model, self.processor, inputs, [seeds[row] for row in rows], options
            )
            texts |= dict(zip(rows, written, strict=True))
        return [texts[row] for row in range(len(prompts))]

    def _inputs(
        self, prompts: Sequence[Prompt], images: Sequence[EncodedImage]
    ) -> Mapping[str, Any]:
        """Return the arguments of the library's `generate`, with the images' vision outputs."""
        mask = torch.zeros(len(prompts), 0, dtype=torch.long)
        segment = make_segment(prompts, images, self.image_token, mask, None)
        ids = segment.ids.to(self.device)
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": segment.mask.to(self.device),
            "position_ids": segment.positions.to(self.device),
            "mm_encoder_outputs": {"image": self.encoder_output(images)},
        }
        if self.architecture.token_types:
            inputs["token_type_ids"] = self.token_types(ids, torch.ones_like(ids))
        return inputs
