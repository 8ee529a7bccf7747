"""Questions on their way to their answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from abo_vqa.remote.contract import Request
from abo_vqa.remote.control_image import grey_square

_CONTROL_TEXT = "What color is this square? Answer with one word."
VERDICT_KEY = "verdict"
"""The key of a control question whose answer acquits the service: see `verdict_question`."""
CONTROL_KEYS = ("", VERDICT_KEY)
"""The keys of questions that are no row's."""


@dataclass
class Question:
    """A question on its way to its answer.

    Attributes:
        key: its key in the journal; one of `CONTROL_KEYS` for a control question.
        request: what is sent.
        failed_tries: see `Item`.
        answers_before: likewise.
    """

    key: str
    request: Request
    failed_tries: int = 0
    answers_before: int = 0

    @property
    def is_control(self) -> bool:
        """Whether it only tells whether the service works."""
        return self.key in CONTROL_KEYS


def control_question() -> Question:
    """Return a question that any working service answers."""
    return Question("", Request("", _CONTROL_TEXT, grey_square()))


def verdict_question(failed: Question) -> Question:
    """Return the question that a row failed with, about a grey square instead of its image.

    If it brings an answer, the prompt and the service are all right, and the images are at fault.

    Args:
        failed: the row's question.
    """
    return Question(VERDICT_KEY, replace(failed.request, image=grey_square()))
