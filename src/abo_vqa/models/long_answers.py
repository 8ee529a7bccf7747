"""Answers in sentences: where one word is expected they are wrong, whatever they say."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from abo_vqa.core.log import get_logger

logger = get_logger(__name__)

_MAX_WORDS = 3  # of a short answer: "light blue", "stainless steel and glass" is long
_FIRST_REPLIES = 20  # of a run, after which a warning comes
_EXAMPLE_LENGTH = 120  # characters


@dataclass
class AnswerLengths:
    """How many of some answers are long.

    Attributes:
        total: answers that aren't empty.
        long: those of more than three words.
        example: the first of these, or "".
    """

    total: int = 0
    long: int = 0
    example: str = ""

    @classmethod
    def of(cls, texts: Iterable[str]) -> AnswerLengths:
        """Count the long ones among some answers."""
        lengths = cls()
        for text in texts:
            lengths.add(text)
        return lengths

    def add(self, text: str) -> None:
        """Take an answer into account; an empty one counts as none."""
        words = text.split()
        self.total += bool(words)
        if len(words) > _MAX_WORDS:
            self.long += 1
            self.example = self.example or text

    @property
    def are_long(self) -> bool:
        """Whether most of the answers are long."""
        return 2 * self.long > self.total

    def describe(self, subject: str, place: str) -> str:
        """Return that the answers are long, with an example, and what to change.

        Args:
            subject: whose answers they are.
            place: where the settings `answer` and `prompt` are.
        """
        example = textwrap.shorten(self.example, _EXAMPLE_LENGTH, placeholder=" […]")
        return (
            f"{subject}: {self.long:,} of {self.total:,} answers have more than {_MAX_WORDS} "
            f"words, e.g. {example!r}. Where one word is expected they count as wrong. If they end "
            f"with the answer, set answer: last_word {place}; otherwise ask for one word in prompt."
        )


class FirstReplies:
    """Warns once, early in a run, if most replies of a service are long."""

    def __init__(self, model: str) -> None:
        """Start without replies.

        Args:
            model: the model's name, for the warning.
        """
        self._model, self._lengths = model, AnswerLengths()

    def add(self, text: str) -> None:
        """Take a reply into account."""
        if self._lengths.total >= _FIRST_REPLIES:
            return
        self._lengths.add(text)
        if self._lengths.total == _FIRST_REPLIES and self._lengths.are_long:
            place = "in its settings under models in the profile, and nothing is asked again"
            logger.warning(self._lengths.describe(self._model, place))
