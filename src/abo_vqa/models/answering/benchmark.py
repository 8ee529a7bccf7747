"""Several models' answers to a user's table; what one of them can't do doesn't stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.errors import AboVqaError, RetryLaterError, UserError, first_line
from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.core.paths import FINETUNED_MODELS
from abo_vqa.models.answering.adhoc import answer_table
from abo_vqa.models.answering.blind import (
    TooFewGroupsError,
    answer_blind_rows,
    cross_fit_blind,
)
from abo_vqa.models.answering.counts import describe_long_answers
from abo_vqa.models.answering.journal import COLUMNS
from abo_vqa.models.endpoint.spending import spending_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config
    from abo_vqa.data.question_table import QuestionTable

logger = get_logger(__name__)


@dataclass
class BenchmarkAnswers:
    """Answers by model.

    Attributes:
        predictions: model → row_id, prediction, confidence and error of every row of the table.
        failures: model → why it has no answers.
        unfinished_fits: blind models whose fit didn't converge.
        partial_fits: blind models that were fitted on a part of the train split → which.
        journals: folders to be discarded once everything is written.
    """

    predictions: dict[str, pd.DataFrame] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    unfinished_fits: list[str] = field(default_factory=list)
    partial_fits: dict[str, str] = field(default_factory=dict)
    journals: list[Path] = field(default_factory=list)


def answer_with_models(
    names: Sequence[str],
    config: Config,
    adapter: Path,
    questions: QuestionTable,
    announce: Callable[[str], None],
) -> BenchmarkAnswers:
    """Ask models one after the other; an interrupted run continues where it was.

    Args:
        names: the models' names; "finetuned" for the one of `adapter`.
        config: the settings.
        adapter: a PEFT folder.
        questions: the table, with a column answer.
        announce: receives a line before each model's work.
    """
    answers = BenchmarkAnswers()
    for number, name in enumerate(names, start=1):
        announce(f"{name} ({number} of {len(names)})")
        try:
            table, journal = answer_table(
                name, config, adapter, questions.rows, questions.images, command="benchmark"
            )
        except (UserError, RetryLaterError, MemoryError, RuntimeError) as error:
            expected = isinstance(error, AboVqaError)
            if not expected and not out_of_memory(error):
                raise
            reason = str(error) if expected else first_line(error)
            answers.failures[name] = reason
        else:
            answers.predictions[name] = add_unasked(table, questions)
            answers.journals.append(journal)
            own = questions.columns.frame["answer"]
            if name not in FINETUNED_MODELS:
                if long := describe_long_answers(name, config, table["prediction"], own):
                    logger.warning(long)
                if spent := spending_of(name, config).text:
                    logger.info(spent)
        release_memory()
    return answers


def answer_with_blind(
    questions: QuestionTable, train: pd.DataFrame | None, images: NDArray[np.int64], seed: int
) -> BenchmarkAnswers:
    """Fit the blind baselines and ask them.

    Args:
        questions: the table.
        train: question and answer of the rows to fit them on; None to fit them on the table's own
            rows, each part on the others.
        images: [n of the table] the number of each row's image.
        seed: of the division into parts.

    Raises:
        UserError: the table's rows are about too few images to be divided.
    """
    rows = questions.test_rows()
    if train is None:
        try:
            fitted = cross_fit_blind(rows, images, seed)
        except TooFewGroupsError as error:
            raise UserError(f"{error} Name a table to fit them on with --train FILE.") from error
    else:
        fitted = answer_blind_rows(rows, train)
    answers = BenchmarkAnswers()
    asked = set(questions.rows["row_id"])
    for variant, result in fitted.items():
        name = f"blind-{variant}"
        known = result.predictions[result.predictions["row_id"].isin(asked)]
        answers.predictions[name] = add_unasked(known, questions)
        if not result.converged:
            answers.unfinished_fits.append(name)
        if result.part:
            answers.partial_fits[name] = result.part
    return answers


def add_unasked(answers: pd.DataFrame, questions: QuestionTable) -> pd.DataFrame:
    """Add the rows whose image wasn't found, with the reason as their error.

    They are the same for every model, the blind ones too: no model gains on another by an image
    that isn't there.

    Args:
        answers: row_id, prediction, confidence and error of the rows that were asked.
        questions: the table.
    """
    unasked = pd.DataFrame(
        [(row_id, "", "", reason) for row_id, reason in questions.errors.items()],
        columns=COLUMNS,
        dtype=object,
    )
    rows = pd.concat([answers, unasked], ignore_index=True)
    return rows.astype({"row_id": int}).sort_values("row_id").reset_index(drop=True)
