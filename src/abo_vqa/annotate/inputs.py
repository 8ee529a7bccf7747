"""What annotation starts from: the balanced table and the quality gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.review import read_decisions
from abo_vqa.core.paths import BALANCED
from abo_vqa.core.tables import STUDY_COLUMNS, read_table

if TYPE_CHECKING:
    from abo_vqa.config import Config


_NEEDED = ("image_path", "name", "product_type", "color", "keywords")


def read_products() -> list[dict[str, str]]:
    """The balanced table's rows."""
    rows = read_table(BALANCED, _NEEDED, STUDY_COLUMNS).to_dict("records")
    return [{str(name): str(value) for name, value in row.items()} for row in rows]


def make_gate(config: Config) -> Gate:
    """The quality gate with people's rejects."""
    settings = config.generate
    rejected = read_decisions(settings.review) if settings.review else frozenset()
    return Gate(settings.questions, settings.allow_brands, rejected)
