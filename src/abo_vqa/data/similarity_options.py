"""The options by which a command is told which images are near-duplicates."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.errors import UserError
from abo_vqa.data.image_vectors import ImageVectors, read_image_vectors
from abo_vqa.data.similarity_rule import PHASH_DISTANCE, SimilarityRule

if TYPE_CHECKING:
    import pandas as pd


def add_similarity_options(parser: argparse.ArgumentParser) -> None:
    """Add `--distance` and `--vectors` to a command's parser."""
    parser.add_argument(
        "--distance",
        type=int,
        default=PHASH_DISTANCE,
        help="bits of 64 in which the hashes of near-duplicates may differ (%(default)s)",
    )
    parser.add_argument(
        "--vectors",
        nargs=2,
        action="append",
        default=[],
        metavar=("DIR", "COSINE"),
        help="also near-duplicates: images whose vectors in this folder (data/vectors/<model>, or "
        "your own vectors.npy and paths.csv) have at least this cosine",
    )


def similarity_rule(args: argparse.Namespace) -> SimilarityRule:
    """Return the rule that the options ask for.

    Args:
        args: the options.

    Raises:
        UserError: a number is out of range, or a folder holds no vectors.
    """
    if not 0 <= args.distance <= 32:
        raise UserError(f"--distance must be from 0 to 32 (of 64 bits), found {args.distance}.")
    return SimilarityRule(args.distance, tuple(_vectors(*pair) for pair in args.vectors))


def _vectors(folder: str, cosine: str) -> tuple[ImageVectors, float]:
    """A folder's vectors and the smallest cosine, from the option's two words."""
    try:
        value = float(cosine)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise UserError(
            f"--vectors {folder} {cosine}: the cosine must be above 0 and at most 1, e.g. 0.95."
        )
    return read_image_vectors(Path(folder)), value


def comparable_table(table: pd.DataFrame, rule: SimilarityRule) -> tuple[pd.DataFrame, list[str]]:
    """Prepare a table for a rule with vectors, for which it needs no perceptual hashes.

    Args:
        table: with image_path.
        rule: the rule.

    Returns:
        The table, and lines for the terminal: how many images have vectors, and how these are
        searched.

    Raises:
        UserError: none of the images has one.
    """
    paths = table["image_path"].tolist()
    notes = [known.describe_coverage(paths) for known, _ in rule.vectors]
    notes += rule.notes(table["image_path"])
    if rule.vectors and "phash" not in table:
        table = table.assign(phash="")
    return table, notes
