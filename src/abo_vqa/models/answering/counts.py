"""How many of a model's answers are missing, empty or long, and what to change about it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.checkpoint_settings import takes_setting
from abo_vqa.models.long_answers import AnswerLengths
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.config import Config


def count_answers(predictions: pd.DataFrame) -> dict[str, int]:
    """Return the numbers of rows, and of those without, with an empty and with a long answer.

    Args:
        predictions: columns prediction and error.
    """
    answers, failed = predictions["prediction"], predictions["error"] != ""
    return {
        "rows": len(predictions),
        "failed": int(failed.sum()),
        "empty": int(((answers == "") & ~failed).sum()),
        "long": AnswerLengths.of(answers).long,
    }


def describe_answers(
    name: str,
    config: Config,
    predictions: pd.DataFrame,
    out: Path,
    expected: Iterable[str],
    spent: str = "",
) -> str:
    """Return the summary of a model's answers; a line more if they are long, or paid for.

    Args:
        name: the model's name.
        config: the settings.
        predictions: columns prediction and error.
        out: the file that they are in.
        expected: see `describe_long_answers`.
        spent: what the model has cost, or "".
    """
    counts = count_answers(predictions)
    failed = f"; {counts['failed']} without an answer" if counts["failed"] else ""
    long = describe_long_answers(name, config, predictions["prediction"], expected)
    summary = f"{name}: {counts['rows']} rows → {out}{failed}"
    return "\n".join(filter(None, (summary, long, spent)))


def describe_long_answers(
    name: str, config: Config, answers: Iterable[str], expected: Iterable[str] = ()
) -> str:
    """Return that most of a model's answers are long, with what to change; "" if they aren't.

    Args:
        name: the model's name. One that chooses among given answers can't help their length.
        config: the settings.
        answers: its answers.
        expected: the table's. Where these are long themselves, nothing is wrong.
    """
    checkpoint = checkpoint_of(name, config)
    writes = takes_setting(str(checkpoint.family), "answer") and checkpoint.decoding == "free"
    lengths = AnswerLengths.of(answers)
    if not (writes and checkpoint.answer == "whole" and lengths.are_long):
        return ""
    if AnswerLengths.of(expected).are_long:
        return ""
    return lengths.describe(name, f"under models.{name} in the profile")
