"""Chat models of architectures that the engine of `abo_vqa.models.causal` doesn't know.

They are asked through the library's `generate`: correct for any image-text-to-text model, and
slower, as an image goes through the whole model with each of its questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText, AutoProcessor

from abo_vqa.core.errors import UserError
from abo_vqa.models.answers import Answer
from abo_vqa.models.causal.prompts import ChatPromptBuilder
from abo_vqa.models.decoding import decoding_of, end_tokens_of, extract_answer, truncate
from abo_vqa.models.pixels import pixel_dtype
from abo_vqa.models.pretrained import PretrainedVQAModel
from abo_vqa.models.record import checkpoint_record
from abo_vqa.models.writing import (
    TextWriter,
    WritingOptions,
    WrittenText,
    continue_prompts,
    too_long,
    without_special_tokens,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import BatchFeature

_CHOICES = 16  # scored at a time: the image goes through the model with each


class LibraryChat(PretrainedVQAModel, TextWriter):
    """A user's message with the image and the prompt, in the checkpoint's own chat template."""

    model_class: ClassVar[Any] = AutoModelForImageTextToText
    processor_class: ClassVar[Any] = AutoProcessor

    def prepare_processor(self) -> None:
        """Pad on the left, as an answer continues its prompt; check the prompt.

        Raises:
            UserError: the prompt, or the chat template, has no place for one image.
        """
        self.processor.tokenizer.padding_side = "left"
        self._prompts = ChatPromptBuilder(
            self.processor, self.checkpoint.prompt, end_tokens_of(self.model)
        )
        if problem := self._prompts.problem():
            raise UserError(f"{self.checkpoint.path}: {problem}.")

    def question_errors(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """Check the questions; see `PromptBuilder.question_errors`."""
        check = super().question_errors
        return self._prompts.question_errors(
            questions, choices, lambda asked: check(asked, choices)
        )

    def preprocess(self, images: Sequence[Image]) -> list[Image]:
        """Return the images as they are, once the image processor has taken each of them.

        It prepares them again with their prompts, and would fail for the whole batch there.
        """
        for image in images:
            self.processor.image_processor(images=[image], return_tensors="pt")
        return list(images)

    def encode(self, pixel_values: Sequence[Image]) -> list[Image]:
        """Return the images as they are: each chat model lays them out in its prompt in its way."""
        return list(pixel_values)

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int | None]:
        """Count the tokens of the prompt and the answer.

        The image's tokens depend on its size and aren't counted, so a text of nearly the maximum
        length may still be too long.
        """
        tokenizer = self.processor.tokenizer
        prompts = [self.checkpoint.prompt.replace("{question}", q) for q in questions]
        lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
        if choices is None:
            answers = [self.checkpoint.max_new_tokens] * len(lengths)
        else:
            tokens = self._prompts.answer_tokens
            answers = [max((len(tokens(c)) for c in options), default=0) for options in choices]
        maximum = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return [prompt + answer for prompt, answer in zip(lengths, answers, strict=True)], maximum

    def predict_answers(
        self, encoded: Sequence[Image], image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Answer greedily, with transformers' `generate`."""
        inputs = self.build_inputs(encoded, image_index, questions)
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self.checkpoint.max_new_tokens,
                return_dict_in_generate=True,
                output_logits=True,
            )
        new_tokens = output.sequences[:, inputs["input_ids"].shape[1] :]  # [B, A]
        log_probs = torch.stack(output.logits, dim=1).float().log_softmax(-1)  # [B, A, vocabulary]
        log_probs = log_probs.gather(2, new_tokens[..., None])[..., 0].double()  # [B, A]
        end_tokens = end_tokens_of(self.model)
        answers = []
        for row, log_prob in zip(new_tokens.tolist(), log_probs, strict=True):
            ids = truncate(row, end_tokens)
            text = self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
            text = extract_answer(text, self.checkpoint.answer)
            answers.append(Answer(text, float(log_prob[: len(ids) + 1].sum().exp())))
        return answers

    def score_choices(
        self,
        encoded: Sequence[Image],
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum the log-probabilities of each choice's tokens after the prompt, without an end."""
        scores: list[list[float]] = []
        for image, question, options in zip(image_index, questions, choices, strict=True):
            inputs = self.build_inputs(encoded, [image], [question])
            pieces = [options[i : i + _CHOICES] for i in range(0, len(options), _CHOICES)]
            scores.append([s for piece in pieces for s in self._log_likelihoods(inputs, piece)])
        return scores

    def first_token_log_probs(
        self,
        encoded: Sequence[Image],
        image_index: Sequence[int],
        questions: Sequence[str],
        candidates: Sequence[str],
    ) -> list[list[float]]:
        """Return the log-probabilities of the candidates' first tokens after the prompts."""
        first = torch.tensor([self._prompts.answer_tokens(c)[0] for c in candidates])
        scores: list[list[float]] = []
        for image, question in zip(image_index, questions, strict=True):
            with torch.inference_mode():
                output = self.model(**self.build_inputs(encoded, [image], [question]))
            log_probs = output.logits[0, -1].float().log_softmax(-1)  # [vocabulary]
            scores.append(log_probs[first.to(log_probs.device)].tolist())
        return scores

    def build_inputs(
        self, encoded: Sequence[Image], image_index: Sequence[int], questions: Sequence[str]
    ) -> BatchFeature:
        """Build the model's inputs, padded on the left.

        Args:
            encoded: N images.
            image_index: each question's image.
            questions: B questions.

        Returns:
            The processor's output for B messages: `input_ids` [B, L], `attention_mask` [B, L],
            `pixel_values` and whatever else the model takes.
        """
        texts = [self.checkpoint.prompt.replace("{question}", question) for question in questions]
        return self._chat_inputs([encoded[image] for image in image_index], texts)

    def _chat_inputs(self, images: Sequence[Image], texts: Sequence[str]) -> BatchFeature:
        """Return the processor's output for messages of an image and a text each."""
        chats = [
            [
                {
                    "role": "user",
                    "content": [{"type": "image", "image": image}, {"type": "text", "text": text}],
                }
            ]
            for image, text in zip(images, texts, strict=True)
        ]
        return self.processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        ).to(self.device, pixel_dtype(self.model))

    def write(
        self,
        encoded: Sequence[Image],
        prompts: Sequence[str],
        seeds: Sequence[int],
        options: WritingOptions,
    ) -> list[WrittenText]:
        """Write a text about each image; see `TextWriter`."""
        asked = [without_special_tokens(prompt, self.processor) for prompt in prompts]
        inputs = self._chat_inputs(encoded, asked)
        lengths = inputs["attention_mask"].sum(1).tolist()
        errors = [too_long(self.model, length, options) for length in lengths]
        texts = {row: WrittenText("", error=error) for row, error in enumerate(errors) if error}
        rows = [row for row, error in enumerate(errors) if not error]
        if rows:
            if len(rows) < len(asked):
                inputs = self._chat_inputs([encoded[i] for i in rows], [asked[i] for i in rows])
            chosen = [seeds[row] for row in rows]
            written = continue_prompts(self.model, self.processor, inputs, chosen, options)
            texts |= dict(zip(rows, written, strict=True))
        return [texts[row] for row in range(len(prompts))]

    def _log_likelihoods(self, inputs: BatchFeature, choices: Sequence[str]) -> list[float]:
        """Compute the log-probabilities that a prompt continues with each of the choices.

        Args:
            inputs: the inputs of one prompt of L tokens, see `build_inputs`.
            choices: C possible answers.

        Returns:
            C log-probabilities.
        """
        tokens = map(self._prompts.answer_tokens, choices)
        answers = [torch.tensor(ids[:-1] or ids) for ids in tokens]  # an empty one is its end token
        padded = pad_sequence(answers, batch_first=True).to(self.device)  # [C, A], on the right
        length, count = inputs["input_ids"].shape[1], len(choices)
        batch = {}
        for name, value in inputs.items():
            batch[name] = value.repeat(count, *[1] * (value.ndim - 1))
            if value.shape == inputs["input_ids"].shape:  # one value per token
                appended = {"input_ids": padded, "attention_mask": torch.ones_like(padded)}
                more = appended.get(name, torch.zeros_like(padded))
                batch[name] = torch.cat([batch[name], more], dim=1)  # [C, L + A]
        with torch.inference_mode():
            logits = self.model(**batch).logits[:, length - 1 : -1]  # [C, A, vocabulary]
        log_probs = logits.float().log_softmax(-1).gather(2, padded[..., None])[..., 0].double()
        return [
            float(row[: len(answer)].sum()) for row, answer in zip(log_probs, answers, strict=True)
        ]

    def record(self) -> dict[str, Any]:
        """Return the checkpoint, the prompt and the way of decoding."""
        return {
            **checkpoint_record(self.checkpoint, self.model),
            "prompt": self.checkpoint.prompt,
            "decoding": decoding_of(self.checkpoint, self.checkpoint.answer),
        }
