"""The contract of every model: pictures and questions in, answers out, a picture seen once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import remedy

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: the answer; may be empty, which is an answer (and a wrong one).
        confidence: probability the model gives to `text`, or None where it has none to give.
        error: why there is no answer; empty if there is one.
    """

    text: str
    confidence: float | None = None
    error: str = ""


class VQAModel(ABC):
    """A model that answers questions about pictures.

    The work is in parts, so that a picture with several questions is seen once, and the device
    needn't wait for a processor: `prepare` turns pictures into numbers, `see` does the rest that
    depends on the picture alone, `answer_encoded` what depends on the question.

    Attributes:
        groups_by: what rows should share a batch, "picture" or "question": whichever carries the
            work that they can share.
        smaller: the settings of its weights that make it take less memory.
        device: where the inputs of its arithmetic go, a `torch.device`.
    """

    device: Any
    groups_by: ClassVar[str] = "picture"
    smaller: tuple[str, ...] = ("dtype", "quantize", "device_map")

    def prepare(self, pictures: Sequence[Image]) -> Any:
        """Pictures as `see` takes them: resized and normalised, on the CPU.

        It runs beside the model, in any number of threads: it touches neither weights nor device
        nor torch's generator. A picture's numbers don't depend on those that it is prepared with.

        Returns:
            P entries, a tensor [P, ...] or a list; a part of them is what `see` takes as well.
        """
        return list(pictures)

    @abstractmethod
    def see(self, prepared: Any) -> Any:
        """What the model needs of each picture, whatever the question: P pictures in, P rows out.

        Args:
            prepared: what `prepare` gave, or some of its entries.
        Returns:
            P entries, a tensor [P, ...] or a list.
        """

    def encode(self, pictures: Sequence[Image]) -> Any:
        """`see` of pictures that aren't prepared yet."""
        return self.see(self.prepare(pictures))

    @abstractmethod
    def answer_encoded(
        self, encoded: Any, which: Sequence[int], questions: Sequence[str]
    ) -> list[Answer]:
        """Answer `questions[i]` about the picture `encoded[which[i]]`.

        An answer depends on its own picture and question only, up to the rounding of the batch.
        """

    def rank_encoded(
        self,
        encoded: Any,
        which: Sequence[int],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Log-likelihood of each of `choices[i]` as the answer to row i."""
        raise UserError(f"{type(self).__name__} can't rank choices by their likelihood.")

    def text_lengths(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> tuple[list[int], int | None]:
        """How long a row's text is in tokens, and how many the model can read; None: any number.

        Args:
            choices: for each question what is to be ranked as its answer; None to let the model
                answer freely.
        """
        return [0] * len(questions), None

    def faults(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]] | None = None
    ) -> list[str]:
        """For each question why it can't be asked, or "".

        A text that doesn't fit would end the batch in some families, and in others be cut where
        nobody sees it; so no family is given one.
        """
        if not questions:
            return []
        lengths, room = self.text_lengths(questions, choices)
        what = "the question" if choices is None else "the question or a choice"
        found = []
        for question, length in zip(questions, lengths, strict=True):
            if not question.strip():
                found.append("the question is empty")
            elif room is not None and length > room:
                found.append(f"{what} is too long: {length:,} tokens, room for {room:,}")
            else:
                found.append("")
        return found

    def picture_fault(self, picture: Image) -> str:
        """Why a picture can't be encoded, or "": a picture must not end the batch it is in."""
        return ""

    def remedy(self, weights: str) -> str:
        """What to do where memory isn't enough.

        Args:
            weights: the model's key under `models`.
        """
        found = self.record()
        now = {key: str(found.get(key, "")) for key in ("dtype", "quantize", "device_map")}
        return remedy(self.smaller, f"models.{weights}", cuda=self.device.type == "cuda", **now)

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What the answers depend on: weights, revision, prompt, decoding, dtype."""

    def answer(self, images: Sequence[Image], questions: Sequence[str]) -> list[Answer]:
        """Answer one question an image; an image object that repeats is encoded once.

        Raises:
            UserError: a question is empty or too long, or a picture can't be encoded.
        """
        _refuse(self.faults(questions))
        pictures, which = distinct(images)
        _refuse([self.picture_fault(picture) for picture in pictures])
        return self.answer_encoded(self.encode(pictures), which, questions) if pictures else []

    def rank(
        self,
        images: Sequence[Image],
        questions: Sequence[str],
        choices: Sequence[Sequence[str]],
    ) -> list[list[float]]:
        """Log-likelihood of each choice, in the order given, for one question an image.

        Raises:
            UserError: the family gives no likelihood to a text of one's choosing; a question is
                empty, or a text too long; a picture can't be encoded.
        """
        _refuse(self.faults(questions, choices))
        pictures, which = distinct(images)
        _refuse([self.picture_fault(picture) for picture in pictures])
        return (
            self.rank_encoded(self.encode(pictures), which, questions, choices) if pictures else []
        )


def _refuse(faults: Sequence[str]) -> None:
    """Raise the first fault as a `UserError`."""
    if fault := next(filter(None, faults), ""):
        raise UserError(f"{fault}.")


def distinct(images: Sequence[Image]) -> tuple[list[Image], list[int]]:
    """Images without repeats (the same object), and for each image its place among them."""
    place: dict[int, int] = {}
    which = [place.setdefault(id(image), len(place)) for image in images]
    pictures: list[Any] = [None] * len(place)
    for image, at in zip(images, which, strict=True):
        pictures[at] = image
    return pictures, which


def longest(tokenizer: Any, texts: Sequence[str]) -> int:
    """Tokens of the longest of some texts that continue another one; 0 if there are none."""
    if not texts:
        return 0
    return max(map(len, tokenizer(list(texts), add_special_tokens=False)["input_ids"]))


def by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Positions grouped by equal length, shortest first: batches that need no padding."""
    groups: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        groups.setdefault(length, []).append(position)
    return [groups[length] for length in sorted(groups)]
