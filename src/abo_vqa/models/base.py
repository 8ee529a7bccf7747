"""The contract that every model implements: images and questions in, answers out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import memory_advice
from abo_vqa.models.answers import Answer, CandidateAnswers, likeliest
from abo_vqa.models.refused_images import IMAGE_ERRORS, refusal_reasons

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerBase


class VQAModel(ABC):
    """A model that answers questions about images.

    The work is split into three steps. `preprocess` runs on the CPU, in background threads, while
    the device is busy with another batch. `encode` is the part of the forward pass that doesn't
    depend on the question, so it runs once per image. `predict_answers` and `score_choices` do the
    rest, for any number of questions about each encoded image.

    Attributes:
        device: the device that inputs are moved to.
        batch_by: what rows of a batch should have in common: the image, or for models whose work
            is mostly in the text, the question.
        supported_settings: which of the checkpoint settings `dtype`, `quantize` and `device_map`
            the family supports; all of them reduce the memory that the weights take.
    """

    device: torch.device
    batch_by: ClassVar[Literal["image", "question"]] = "image"
    supported_settings: tuple[str, ...] = ("dtype", "quantize", "device_map")
    progress_note: str = ""  # what stands behind the bar of answers, such as their cost

    def preprocess(self, images: Sequence[Image]) -> Any:
        """Resize and normalise images on the CPU.

        This is called from several threads at once: it must not touch the weights, the device or
        torch's random generator, and an image's result must not depend on the other images.

        Args:
            images: N images in RGB.

        Returns:
            N entries, as a tensor [N, ...] or as a list; `encode` accepts any subset of them.
        """
        return list(images)

    @abstractmethod
    def encode(self, pixel_values: Any) -> Any:
        """Compute everything that depends on the images alone, usually the vision forward pass.

        Args:
            pixel_values: the result of `preprocess`, or a subset of its N entries.

        Returns:
            N entries, as a tensor [N, ...] or as a list.
        """

    @property
    def encoded_shape(self) -> tuple[int, int] | None:
        """[T, V] of `split_encoded`'s matrices; None if images may differ in it."""
        return None

    def split_encoded(self, encoded: Any) -> tuple[torch.Tensor, str]:
        """Split an image's encoding for storage.

        Args:
            encoded: one entry of the result of `encode`.

        Returns:
            A matrix [T, V], and what else there is as one line of text; "" if there is nothing.

        Raises:
            UserError: the family's vision outputs can't be stored.
        """
        raise UserError(f"the vision outputs of {type(self).__name__} can't be stored.")

    def join_encoded(self, matrices: Sequence[torch.Tensor], texts: Sequence[str]) -> Any:
        """Undo `split_encoded` for several images.

        Args:
            matrices: N matrices [T, V], as a list or, where all images have one `encoded_shape`, as
                a tensor [N, T, V].
            texts: N texts.

        Returns:
            N entries, as `encode` returns them.

        Raises:
            UserError: the family's vision outputs can't be stored.
        """
        raise UserError(f"the vision outputs of {type(self).__name__} can't be stored.")

    def image_vector(self, encoded: Any) -> torch.Tensor:
        """Return one vector [V] of an encoded image, by default the mean of its matrix's rows."""
        return self.split_encoded(encoded)[0].float().mean(0)

    def encode_images(self, images: Sequence[Image]) -> Any:
        """Return `encode(preprocess(images))`.

        Raises:
            UserError: the processor refuses an image.
        """
        try:
            pixel_values = self.preprocess(images)
        except IMAGE_ERRORS as error:
            _raise_first(refusal_reasons(self.preprocess, images, error))
            raise
        return self.encode(pixel_values)

    @abstractmethod
    def predict_answers(
        self, encoded: Any, image_index: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Answer a batch of questions about encoded images.

        Up to rounding, an answer doesn't depend on the other rows of the batch.

        Args:
            encoded: the result of `encode`.
            image_index: for each of the B questions, its image's position in `encoded`.
            questions: B questions.

        Returns:
            B answers.
        """

    def score_choices(
        self,
        encoded: Any,
        image_index: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Compute the log-likelihood of each choice as the answer to its question.

        Args:
            encoded: the result of `encode`.
            image_index: for each of the B questions, its image's position in `encoded`.
            questions: B questions.
            choices: the possible answers to each question.

        Returns:
            For each question the log-likelihoods of its choices.

        Raises:
            UserError: the family doesn't give likelihoods to arbitrary texts.
        """
        raise UserError(f"{type(self).__name__} can't rank choices by their likelihood.")

    def first_token_log_probs(
        self,
        encoded: Any,
        image_index: Sequence[int],
        questions: Sequence[str],
        candidates: Sequence[str],
    ) -> Sequence[Sequence[float]] | None:
        """Compute the log-probability of each candidate's first token: cheap, for shortlists.

        Args:
            encoded: the result of `encode`.
            image_index: for each of the B questions, its image's position in `encoded`.
            questions: B questions.
            candidates: C possible answers to each question.

        Returns:
            B lists of C numbers; None if whole answers cost the family no more: then all
            candidates are scored.
        """
        return None

    def rank_answers(
        self,
        encoded: Any,
        image_index: Sequence[int],
        questions: Sequence[str],
        candidates: CandidateAnswers,
    ) -> list[Answer]:
        """Answer with the likeliest candidate of each question's shortlist.

        Args:
            encoded: the result of `encode`.
            image_index: for each of the B questions, its image's position in `encoded`.
            questions: B questions.
            candidates: the possible answers.

        Returns:
            B answers; the confidence is the answer's share of the shortlist's likelihood.
        """
        choices: list[Sequence[str]] = [candidates.pool] * len(questions)
        if len(candidates.pool) > candidates.k:
            first = self.first_token_log_probs(encoded, image_index, questions, candidates.pool)
            if first is not None:
                choices = [candidates.select(row) for row in first]
        scores = self.score_choices(encoded, image_index, questions, choices)
        return [likeliest(*row, candidates.k) for row in zip(choices, scores, strict=True)]

    def text_lengths(
        self,
        questions: Sequence[str],
        choices: Sequence[Sequence[str]] | None = None,
    ) -> tuple[list[int], int | None]:
        """Count the tokens of each row's text.

        Args:
            questions: the questions.
            choices: the choices that are to be scored for each question; None for free answers.

        Returns:
            The lengths, and the maximum that the model accepts (None: no maximum).
        """
        return [0] * len(questions), None

    def question_errors(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """Check that the questions can be asked.

        Some families fail on a text that is too long, and with it the whole batch; others truncate
        it silently. So no family is given one.

        Args:
            questions: the questions.
            choices: see `text_lengths`.

        Returns:
            For each question an error message, or "".
        """
        if not questions:
            return []
        lengths, maximum = self.text_lengths(questions, choices)
        subject = "the question" if choices is None else "the question or a choice"
        errors = []
        for question, length in zip(questions, lengths, strict=True):
            if not question.strip():
                errors.append("the question is empty")
            elif maximum is not None and length > maximum:
                errors.append(f"{subject} is too long: {length:,} tokens, room for {maximum:,}")
            else:
                errors.append("")
        return errors

    def image_error(self, image: Image) -> str:
        """Return why an image can't be encoded, or "": one image must not fail a whole batch."""
        return ""

    def memory_advice(self, checkpoint_key: str) -> str:
        """Return what the user can do if memory isn't sufficient.

        Args:
            checkpoint_key: the checkpoint's key under `models` in the profile.
        """
        record = self.record()
        current = {key: str(record.get(key, "")) for key in ("dtype", "quantize", "device_map")}
        return memory_advice(
            self.supported_settings,
            f"models.{checkpoint_key}",
            cuda=self.device.type == "cuda",
            **current,
        )

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return what the answers depend on: weights, revision, prompt, decoding, dtype."""

    def answer(self, images: Sequence[Image], questions: Sequence[str]) -> list[Answer]:
        """Answer one question per image.

        Args:
            images: the images; the same object repeated is encoded only once.
            questions: one question for each image.

        Returns:
            The answers.

        Raises:
            UserError: a question is empty or too long, or an image can't be encoded.
        """
        _raise_first(self.question_errors(questions))
        unique, image_index = _unique_images(images)
        _raise_first([self.image_error(image) for image in unique])
        if not unique:
            return []
        return self.predict_answers(self.encode_images(unique), image_index, questions)

    def rank(
        self,
        images: Sequence[Image],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Compute the log-likelihoods of choices for one question per image.

        Args:
            images: the images; the same object repeated is encoded only once.
            questions: one question for each image.
            choices: the possible answers to each question.

        Returns:
            For each question the log-likelihoods of its choices, in their order.

        Raises:
            UserError: the family doesn't give likelihoods to arbitrary texts; a question is empty;
                a text is too long; an image can't be encoded.
        """
        _raise_first(self.question_errors(questions, choices))
        unique, image_index = _unique_images(images)
        _raise_first([self.image_error(image) for image in unique])
        if not unique:
            return []
        return self.score_choices(self.encode_images(unique), image_index, questions, choices)


def _raise_first(errors: Sequence[str]) -> None:
    """Raise the first error that isn't empty as a `UserError`."""
    if error := next(filter(None, errors), ""):
        raise UserError(f"{error}.")


def _unique_images(images: Sequence[Image]) -> tuple[list[Image], list[int]]:
    """Return the distinct image objects, and for each image its position among them."""
    positions: dict[int, int] = {}
    image_index = [positions.setdefault(id(image), len(positions)) for image in images]
    by_id = {id(image): image for image in images}
    return [by_id[key] for key in positions], image_index


def max_token_count(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """Return the number of tokens of the longest text, without special tokens; 0 if none."""
    if not texts:
        return 0
    return max(map(len, tokenizer(list(texts), add_special_tokens=False)["input_ids"]))


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Group positions of equal length, shortest first, so that batches need no padding."""
    groups: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        groups.setdefault(length, []).append(position)
    return [groups[length] for length in sorted(groups)]
