"""Which answers are probably wrong: models that were trained on the other images doubt them.

Each part of the images is judged by a LoRA of `lora.model` that was trained on the other parts,
wrong answers included (Northcutt et al., "Confident Learning", JAIR 70, 2021, arXiv:1911.00068).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.annotate.verification.blind import verification_groups
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.locks import discard, locked
from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import release_memory
from abo_vqa.core.scratch import scratch
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.models.answering.margins import answer_with_margins
from abo_vqa.training.run import checkpoint_folder, locked_checkpoints, open_store, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import Config

logger = get_logger(__name__)


def assign_parts(config: Config, table: pd.DataFrame, parts: int) -> NDArray[np.int64]:
    """[n] the part of each row; look-alikes, products and images aren't separated.

    Args:
        config: the seed, and how far look-alikes may differ.
        table: the rows.
        parts: how many parts.

    Raises:
        UserError: there are fewer groups than parts.
    """
    groups = verification_groups(config, table)
    count = int(groups.max(initial=-1)) + 1
    if count < parts:
        raise UserError(
            f"the table's images form {count} group(s) of look-alikes, fewer than the {parts} "
            "parts that are to judge each other. Use a larger table, or a smaller --folds."
        )
    numbers = np.random.default_rng(config.seed).permutation(count) % parts
    return numbers[groups]


@contextmanager
def cross_fitted_margins(config: Config, table: pd.DataFrame, parts: int) -> Iterator[pd.DataFrame]:
    """Train once for each part and judge it; an interrupted run goes on where it was.

    What is computed is kept until the block ends without an error.

    Args:
        config: the settings.
        table: columns image_path, question, answer, and those that tell look-alikes.
        parts: how many; the more, the more rows each training has.

    Yields:
        own_answer (of the model that wasn't trained on the image), margin (see `MarginModel`; NaN
        where there is an error) and error, in the order of the table's rows.

    Raises:
        UserError: the table is too small, the model can't be trained or rank, or its vision outputs
            are missing.
    """
    open_store(config)  # before anything is announced that needs it
    numbered = table.assign(row_id=range(len(table)))
    part = assign_parts(config, table, parts)
    key = fingerprint([table.astype(str).values.tolist(), list(table), part.tolist()])
    with locked(scratch("suspects", key)) as folder:
        answers = []
        for k in range(parts):
            logger.info(f"part {k + 1} of {parts}: training on the others, judging this one")
            answers.append(_judge(config, numbered, part == k, folder / f"{k}"))
            release_memory()
        judged = pd.concat(answers).astype({"row_id": int}).sort_values("row_id")
        yield pd.DataFrame(
            {
                "own_answer": judged["prediction"].to_numpy(dtype=object),
                "margin": pd.to_numeric(judged["confidence"]).to_numpy(dtype=float),
                "error": judged["error"].to_numpy(dtype=object),
            }
        )
    discard(folder)


def _judge(
    config: Config, table: pd.DataFrame, mine: NDArray[np.bool_], folder: Path
) -> pd.DataFrame:
    """Return the answers to some rows of the model that is trained on the others."""
    folder.mkdir(exist_ok=True)
    rows = folder / "train.csv"
    if not rows.exists():
        write_table(table[~mine], rows)
    checkpoints = checkpoint_folder(config, rows)
    adapter, result = (folder / f"{kind}-{checkpoints.name}" for kind in ("adapter", "answers"))
    if result.exists():
        discard(checkpoints)
        return read_table(result)
    if not adapter.is_dir():
        with locked_checkpoints(config, rows) as checkpoints:
            trained = train(config, checkpoints, training_rows=rows)
            assert trained.save is not None, "there is one process"
            with atomic_folder(adapter) as staged:
                trained.save(staged)
        del trained
        release_memory()
    answers, journal = answer_with_margins(config, table[mine], adapter)
    write_table(answers, result)
    for done in (journal, checkpoints):
        discard(done)
    return answers
