"""What a baseline behind an API would cost (`abo-vqa baseline --model NAME --dry-run`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abo_vqa.core.paths import VQA
from abo_vqa.core.tables import read_table
from abo_vqa.models.answering.sampling import sample_rows
from abo_vqa.models.endpoint.spending import estimate_questions

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def estimate_baseline(name: str, config: Config) -> str:
    """Return a table of the rows that are still to be asked, and what that takes.

    Args:
        name: the model's name.
        config: the settings.

    Raises:
        UserError: the model runs on this machine.
    """
    table = read_table(VQA, columns=["image_path", "question"])
    rows = sample_rows(table, config.seed, config.baselines.fraction)
    return estimate_questions(name, config, rows)
