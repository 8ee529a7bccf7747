"""The contract's implementation for decoder-only models of transformers.

Prefill and decoding are this project's own, so that an image and what precedes the question go
through the language model once for all of its questions.

Shapes: B questions about N images; T tokens of an image; vocabulary V.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from abo_vqa.models.answers import Answer, CandidateAnswers, likeliest
from abo_vqa.models.causal.prefill import Prefilled, Prompt, Segment, like_lengths, prefill
from abo_vqa.models.causal.ranking import log_likelihoods, pieces
from abo_vqa.models.causal.vision_language import VisionLanguageModel
from abo_vqa.models.decoding import decoding_of, end_tokens_of, extract_answer, greedy
from abo_vqa.models.encoded import EncodedImage, ImageLayout
from abo_vqa.models.record import checkpoint_record

_SAMPLE_SIDE = 256  # pixels; what ABO's small images have


class CausalVQAModel(VisionLanguageModel):
    """Answers greedily, and ranks given answers by their likelihood."""

    _sample_layout: ImageLayout | None = None

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int | None]:
        """Count the tokens of the prompts, an image's included, and those of the answer."""
        if self._sample_layout is None:
            blank = Image.new("RGB", (_SAMPLE_SIDE, _SAMPLE_SIDE), "gray")
            self._sample_layout = self.preprocess([blank])[0].layout
        layout = self._sample_layout
        lengths = [len(self.prompts.tokenize(question, layout)) for question in questions]
        if choices is None:
            # The last new token isn't fed back.
            answers = [self.checkpoint.max_new_tokens - 1] * len(lengths)
        else:
            tokens = self.prompts.answer_tokens
            answers = [max((len(tokens(c)) for c in options), default=0) for options in choices]
        text = self.model.config.get_text_config()
        maximum: int | None = getattr(text, "max_position_embeddings", None)
        window: int | None = getattr(text, "sliding_window", None)
        if choices is not None and window is not None:
            # Choices stand behind each other: a mask keeps them apart, but knows no window.
            maximum = window if maximum is None else min(maximum, window)
        return [prompt + answer for prompt, answer in zip(lengths, answers, strict=True)], maximum

    def question_errors(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """Check the questions; see `PromptBuilder.question_errors`."""
        check = super().question_errors
        return self.prompts.question_errors(questions, choices, lambda asked: check(asked, choices))

    def predict_answers(
        self, encoded: Sequence[EncodedImage], image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Continue the prompts greedily, those of like lengths together."""
        prompts = [
            self.make_prompt(encoded[image].layout, question)
            for image, question in zip(image_index, questions, strict=True)
        ]
        answers: dict[int, Answer] = {}
        fitting = []
        for row, prompt in enumerate(prompts):
            if error := self._length_error(prompt):
                answers[row] = Answer("", None, error)
            else:
                fitting.append(row)
        chosen = [prompts[row] for row in fitting]
        for group in like_lengths(chosen, self._must_not_pad(chosen)):
            rows = [fitting[i] for i in group]
            with torch.inference_mode():
                decoded = self._generate(
                    [prompts[row] for row in rows], [encoded[image_index[row]] for row in rows]
                )
            for row, (ids, probability) in zip(rows, decoded, strict=True):
                text = self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
                answers[row] = Answer(extract_answer(text, self.answer_rule), probability)
        return [answers[row] for row in range(len(questions))]

    @property
    def answer_rule(self) -> Literal["whole", "last_word"]:
        """Which part of a text is the answer: all of it if the model was fine-tuned to write it."""
        return "whole" if self.is_finetuned else self.checkpoint.answer

    def _length_error(self, prompt: Prompt) -> str:
        """Return that a prompt is too long, or "": images may have more tokens than the usual."""
        maximum: int | None = getattr(
            self.model.config.get_text_config(), "max_position_embeddings", None
        )
        length = len(prompt.ids) + self.checkpoint.max_new_tokens - 1
        if maximum is None or length <= maximum:
            return ""
        return f"image and question are too long: {length:,} tokens, room for {maximum:,}"

    def _must_not_pad(self, prompts: Sequence[Prompt]) -> bool:
        """Whether padding would matter: a sliding window counts padded positions as well."""
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        longest = max((len(prompt.ids) for prompt in prompts), default=0)
        return window is not None and 2 * longest + self.checkpoint.max_new_tokens > window

    def _generate(
        self, prompts: Sequence[Prompt], images: Sequence[EncodedImage]
    ) -> list[tuple[list[int], float]]:
        """Continue each prompt greedily.

        Args:
            prompts: B prompts.
            images: each prompt's image.

        Returns:
            For each prompt the new tokens and their probability.
        """
        state = self._prefill(prompts, images)

        def decode_step(input_ids: Tensor) -> Tensor:
            ones = state.mask.new_ones(len(input_ids), 1)
            state.mask = torch.cat([state.mask, ones], dim=1)
            segment = Segment(input_ids, (), state.positions, state.mask, state.cache)
            output = self.forward(segment)
            state.cache, state.positions = output.past_key_values, state.positions + 1
            last: Tensor = output.logits[:, -1]
            return last

        ends = end_tokens_of(self.decoder)
        return greedy(state.logits, decode_step, ends, self.checkpoint.max_new_tokens)

    def _prefill(self, prompts: Sequence[Prompt], images: Sequence[EncodedImage]) -> Prefilled:
        causal = self.architecture.causal
        return prefill(self.forward, prompts, images, self.image_token, causal)

    def score_choices(
        self,
        encoded: Sequence[EncodedImage],
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Sum the log-probabilities of each choice's tokens after the prompt.

        The end token is counted if the model was fine-tuned: one that wasn't trained to stop after
        a word would prefer long answers. An empty choice is the end token alone.
        """
        tokens = [[self._choice_tokens(choice) for choice in options] for options in choices]
        scores: dict[int, list[float]] = {}
        for rows, state in self._prefill_pieces(encoded, image_index, questions, tokens):
            chosen = [tokens[row] for row in rows]
            with torch.inference_mode():
                values = log_likelihoods(self.forward, state, chosen, self.make_mask)
            scores |= dict(zip(rows, values, strict=True))
        return [scores[row] for row in range(len(questions))]

    def first_token_log_probs(
        self,
        encoded: Sequence[EncodedImage],
        image_index: Sequence[int],
        questions: Sequence[str],
        candidates: Sequence[str],
    ) -> list[list[float]]:
        """Return the log-probabilities of the candidates' first tokens after the prompts."""
        first = torch.tensor([self._choice_tokens(candidate)[0] for candidate in candidates])
        scores: dict[int, list[float]] = {}
        nothing: list[list[list[int]]] = [[]] * len(questions)
        for rows, state in self._prefill_pieces(encoded, image_index, questions, nothing):
            log_probs = state.logits.float().log_softmax(-1)[:, first.to(state.logits.device)]
            scores |= dict(zip(rows, log_probs.tolist(), strict=True))
        return [scores[row] for row in range(len(questions))]

    def rank_answers(
        self,
        encoded: Sequence[EncodedImage],
        image_index: Sequence[int],
        questions: Sequence[str],
        candidates: CandidateAnswers,
    ) -> list[Answer]:
        """Answer with the likeliest candidate; shortlist and scores share the prompts' prefill."""
        if len(candidates.pool) <= candidates.k:
            return super().rank_answers(encoded, image_index, questions, candidates)
        tokens = {text: self._choice_tokens(text) for text in candidates.pool}
        first = torch.tensor([tokens[text][0] for text in candidates.pool])
        longest = sorted(tokens.values(), key=len)[-candidates.k :]
        answers: dict[int, Answer] = {}
        most = [longest] * len(questions)
        for rows, state in self._prefill_pieces(encoded, image_index, questions, most):
            log_probs = state.logits.float().log_softmax(-1)[:, first.to(state.logits.device)]
            choices = [candidates.select(row) for row in log_probs.tolist()]
            chosen = [[tokens[text] for text in row] for row in choices]
            with torch.inference_mode():
                values = log_likelihoods(self.forward, state, chosen, self.make_mask)
            for row, texts, scores in zip(rows, choices, values, strict=True):
                answers[row] = likeliest(texts, scores, candidates.k)
        return [answers[row] for row in range(len(questions))]

    def _prefill_pieces(
        self,
        encoded: Sequence[EncodedImage],
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[Sequence[int]]],
    ) -> Iterator[tuple[list[int], Prefilled]]:
        """Run the prompts through the language model, as many at a time as memory allows.

        Yields:
            The positions of some questions, and their prompts' state.
        """
        prompts = [
            self.make_prompt(encoded[image].layout, question)
            for image, question in zip(image_index, questions, strict=True)
        ]
        lengths = [sum(map(len, options)) for options in choices]
        for group in like_lengths(prompts, self._must_not_pad(prompts)):
            for rows in pieces(group, lengths):
                images = [encoded[image_index[row]] for row in rows]
                with torch.inference_mode():
                    state = self._prefill([prompts[row] for row in rows], images)
                yield rows, state

    def _choice_tokens(self, choice: str) -> list[int]:
        """Return the tokens whose log-probabilities a choice's score sums, at least one."""
        tokens = self.prompts.answer_tokens(choice)
        return tokens if self.is_finetuned else tokens[:-1] or tokens

    def record(self) -> dict[str, Any]:
        """Return the checkpoint, the prompt and the way of decoding."""
        return {
            **checkpoint_record(self.checkpoint, self.model),
            "prompt": self.checkpoint.prompt,
            "decoding": decoding_of(self.checkpoint, self.answer_rule),
        }
