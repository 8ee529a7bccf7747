"""What the bootstrap and the permutation test resample: images, else rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa.data.image_paths import unify_image_paths

if TYPE_CHECKING:
    from numpy.typing import NDArray


def image_clusters(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Number the images of a table.

    Args:
        rows: with a column `image_path`; without one, each row is a cluster.

    Returns:
        [n] cluster numbers from 0, in the order images first occur. Two spellings of one path are
        one cluster; a row with a blank path is a cluster of its own.
    """
    if "image_path" not in rows:
        return np.arange(len(rows))
    keys = [name or number for number, name in enumerate(unify_image_paths(rows["image_path"])[0])]
    return pd.factorize(np.array(keys, dtype=object))[0].astype(np.int64)


def describe_clusters(rows: pd.DataFrame, column: str | None) -> str:
    """Describe what the intervals resample, in one line.

    Args:
        rows: as for `image_clusters`.
        column: the image column's name in the user's file.

    Returns:
        The line, without a full stop.
    """
    if "image_path" not in rows:
        return "resampled: rows (no image column found; name one with --columns image_path=…)"
    names = unify_image_paths(rows["image_path"])[0]
    unnamed, groups = names.count(""), len({*names} - {""})
    noun = "image" if groups == 1 else "images"
    alone = f", and {unnamed:,} row(s) that name none, each by itself" if unnamed else ""
    return f"resampled: {groups:,} {noun} (column {column}){alone}"
