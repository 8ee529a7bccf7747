"""The counts in data/generate.json, and their one-line summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.annotate import corpus
from abo_vqa.annotate.annotation import Annotations
from abo_vqa.annotate.given import counted

if TYPE_CHECKING:
    from abo_vqa.config import Config


def describe(config: Config, made: Annotations) -> dict[str, Any]:
    """The content of data/generate.json."""
    settings = config.generate
    return {
        "images": made.images,
        "annotated_images": len({row["image_path"] for row in made.rows}),
        "pairs": len(made.rows),
        "dropped_images": counted(made.dropped),
        "rejected": counted([row["reason"] for row in made.rejects]),
        **({"kept_in_spite_of": counted(made.flagged)} if made.flagged else {}),
        "kinds": counted([row["question_kind"] for row in made.rows]),
        "corpus": corpus.check(made.rows, config.seed, settings.yes_share),
    }


def headline(counts: dict[str, Any]) -> str:
    said = f"{counts['pairs']:,} pairs over {counts['annotated_images']:,} images"
    dropped = ", ".join(f"{n:,} {why}" for why, n in counts["dropped_images"].items())
    blind = counts["corpus"]["answerable_without_picture"].values()
    if dropped:
        said += f"; images left out: {dropped}"
    return said + (f"; {max(blind):.1%} can be told without the picture" if blind else "")


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of nested counts by slashed names, for MLflow."""
    found: dict[str, float] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found |= flat(item, f"{prefix}{_slashless(name)}/")
        elif isinstance(item, (int, float)):
            found[f"{prefix}{_slashless(name)}"] = float(item)
    return found


def _slashless(name: str) -> str:
    """A name that opens no group of its own in MLflow: yes_no for yes/no."""
    return name.replace("/", "_").replace("(", "").replace(")", "")
