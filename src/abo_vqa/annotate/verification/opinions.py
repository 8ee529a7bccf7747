"""What the verifiers answer: models from image and question, the blind one from the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.annotate.verification.blind import answer_blindly, in_order, number_rows
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.locks import discard
from abo_vqa.core.memory import release_memory
from abo_vqa.core.verify_config import BLIND_VERIFIER
from abo_vqa.models.answering.blind import TooFewGroupsError

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


@dataclass(frozen=True)
class Opinion:
    """One verifier's answers.

    Attributes:
        answers: columns prediction and error, one row per row of the table, in its order.
        folder: the journal's, to be discarded once the answers are written; None without one.
    """

    answers: pd.DataFrame
    folder: Path | None = None


def ask_verifiers(names: Sequence[str], config: Config, table: pd.DataFrame) -> dict[str, Opinion]:
    """Have each verifier answer all questions, the blind one first, which takes least.

    One whose service can't answer now doesn't keep the others from answering.

    Args:
        names: those in `verify.models`.
        config: the settings.
        table: the generated table.

    Returns:
        Verifier → its answers, in the order of the names.

    Raises:
        UserError: see `ask_verifier`.
        RetryLaterError: a service can't answer now; every answer so far is kept.
    """
    opinions, later = {}, {}
    for name in sorted(names, key=lambda name: name != BLIND_VERIFIER):
        try:
            opinions[name] = ask_verifier(name, config, table)
        except RetryLaterError as error:
            later[name] = f"{name}: {error}"
    if later:
        raise RetryLaterError(
            f"{' '.join(later.values())} The other verifiers' answers are saved, too. To go on "
            f"without {' and '.join(later)}, take it out of verify.models."
        )
    return {name: opinions[name] for name in names}


def ask_verifier(name: str, config: Config, table: pd.DataFrame) -> Opinion:
    """Have one verifier answer all questions; an interrupted run continues where it was.

    Args:
        name: a name in `verify.models`.
        config: the settings.
        table: the generated table.

    Raises:
        UserError: the model can't be loaded or paid for, or memory isn't sufficient; or the blind
            predictor can't be fitted.
        RetryLaterError: a service can't answer now.
    """
    if name == BLIND_VERIFIER:
        try:
            return Opinion(answer_blindly(config, table))
        except TooFewGroupsError as error:
            raise UserError(f"{error} Take {name} out of verify.models.") from error
    # Only here: it loads torch, which the blind predictor doesn't need.
    from abo_vqa.models.answering.baseline import BaselineJob, answer_all

    asked = number_rows(table)[["row_id", "image_path", "question"]]
    # Stored vision outputs are made from the verified table, so those there are may be old.
    # And what a ranking model chooses among are the very answers to be verified: it writes its own.
    job = BaselineJob.about(asked, name, config, stage="opinions", use_stored=False, ranked=False)
    try:
        predictions = answer_all(config, job).predictions
    except UserError as error:
        raise UserError(
            f"verifier {name}: {error} What was answered is saved. To go on without it, take "
            f"{name} out of verify.models."
        ) from error
    release_memory()  # for the next model
    return Opinion(in_order(predictions), job.folder)


def discard_journals(opinions: Mapping[str, Opinion]) -> None:
    """Remove the journals of answers that are written.

    Args:
        opinions: verifier → its answers.
    """
    for opinion in opinions.values():
        if opinion.folder:
            discard(opinion.folder)
