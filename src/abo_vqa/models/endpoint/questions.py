"""Questions on their way to their answers."""

from __future__ import annotations

from dataclasses import dataclass

from abo_vqa.remote.contract import Request
from abo_vqa.remote.control_image import grey_square

_CONTROL_TEXT = "What color is this square? Answer with one word."


@dataclass
class Question:
    """A question on its way to its answer.

    Attributes:
        key: its key in the journal; "" for a control question, which is no row's.
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
        return not self.key


def control_question() -> Question:
    """Return a question that any working service answers."""
    return Question("", Request("", _CONTROL_TEXT, grey_square()))
