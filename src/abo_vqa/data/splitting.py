"""Split a VQA table into train and test rows that share no group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix

from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import TableWriter, iter_table, read_table
from abo_vqa.data.assignment import Bundles, Exposure, assign_bundles
from abo_vqa.data.groups import BY_SIMILARITY, bundle_groups, group_rows, require_columns
from abo_vqa.data.key_columns import numbered_texts, run_starts, sorted_numbers
from abo_vqa.data.similarity import SimilarityGraph
from abo_vqa.data.similarity_rule import ComparedTable, SimilarityRule

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_WHOLE_SHARE = 0.5  # of the smaller side; a component with more rows is cut
_BUNDLE_SHARE = 0.02  # of all rows: what it is cut into; ten bundles fill a test set of a fifth

_PIECE = 1 << 16  # rows that are written at a time

_Positions = tuple["NDArray[np.int64]", "NDArray[np.int64]"]


def split_rows(
    table: pd.DataFrame | ComparedTable,
    kind: str,
    test_size: float,
    seed: int,
    *,
    rule: SimilarityRule,
    stratify: bool,
) -> _Positions:
    """Choose the rows of train and test.

    Args:
        table: a VQA table with the columns `groups.REQUIRED_COLUMNS[kind]`; if its images are
            compared already, by the same rule.
        kind: which rows stay together, see `groups.group_rows`.
        test_size: share of the images (kind "image") or of the rows (else) that goes to test.
        seed: random state.
        rule: which images are near-duplicates.
        stratify: keep the shares of product types; has no effect for kind "image".

    Returns:
        positions of the train rows and of the test rows, in the order to write them.

    Raises:
        UserError: columns are missing, or there are too few groups for two sides.
    """
    whole = table.table if isinstance(table, ComparedTable) else table
    if whole.empty:
        raise UserError("the VQA table has no rows: nothing to split.")
    require_columns(whole, kind)
    compared = table if isinstance(table, ComparedTable) else ComparedTable.of([table], rule)
    if kind == "image":
        sides = _study_split(compared.table, test_size, seed)
    else:
        sides = _grouped_split(compared, kind, test_size, seed, stratify)
    if not all(map(len, sides)):
        raise UserError(
            f"the table's groups by {kind} are too few or too large for a test set of "
            f"{test_size:.0%}. Use a smaller kind of group, or more data."
        )
    return sides


def _study_split(table: pd.DataFrame, test_size: float, seed: int) -> _Positions:
    """The study's split: whole images drawn by scikit-learn, in the order drawn."""
    from sklearn.model_selection import train_test_split  # a second, which other kinds needn't pay

    images = list(table.groupby(sorted_numbers(table["image_path"]), sort=True).indices.values())
    if len(images) < 2:
        raise UserError(f"{len(images)} image(s) can't be split into train and test.")
    if math.ceil(test_size * len(images)) >= len(images):
        raise UserError(
            f"a test set of {test_size:.0%} leaves none of the {len(images)} images to train. "
            f"Use at most {(len(images) - 1) / len(images):.0%}, or more data."
        )
    train, test = train_test_split(images, test_size=test_size, random_state=seed)
    return np.concatenate(train), np.concatenate(test)


def _grouped_split(
    compared: ComparedTable, kind: str, test_size: float, seed: int, stratify: bool
) -> _Positions:
    """Whole groups assigned to the sides (see `assignment`); rows keep their order."""
    table = compared.table
    graph = compared.graph if kind in BY_SIMILARITY else None
    groups = group_rows(table, kind, compared.rule, graph)
    groups = _renumber_by_image(groups, table["image_path"])
    if groups.max() == 0:
        raise UserError(
            f"all rows are one group by {kind}: there is nothing to put into the test set. Use "
            "another --group (the stage: split.group), or more data."
        )
    exposure = None
    if graph is not None:
        whole = _WHOLE_SHARE * min(test_size, 1 - test_size) * len(table)
        limit = max(1, round(_BUNDLE_SHARE * len(table)))
        groups = bundle_groups(groups, graph, limit, int(whole))
        groups = np.unique(groups, return_inverse=True)[1]
        exposure = _exposure(table["image_path"], groups, graph)
    rows = np.bincount(groups)
    clean = np.ones(len(rows), dtype=bool) if exposure is None else exposure.clean()
    types = table["product_type"] if stratify and "product_type" in table else None
    bundles = Bundles(rows, _rows_by_type(groups, types), clean)
    test = assign_bundles(bundles, exposure, test_size, seed)[groups]
    return np.flatnonzero(~test), np.flatnonzero(test)


def _exposure(paths: pd.Series, bundles: NDArray[np.int64], graph: SimilarityGraph) -> Exposure:
    """What the images' likeness costs a split, each image counted once."""
    # Only some of an image's rows may have its hash; -1, for none, comes last in this order.
    numbers = numbered_texts(paths)[0]
    starts = np.flatnonzero(run_starts(numbers, graph.nodes))
    order = starts[np.argsort(-graph.nodes[starts], kind="stable")]
    images = order[np.unique(numbers[order], return_index=True)[1]]
    return Exposure(bundles[images], graph.take(images))


def _renumber_by_image(groups: NDArray[np.int64], images: pd.Series) -> NDArray[np.int64]:
    """Number groups by their first image's name, so that the order of rows doesn't matter."""
    first = np.full(int(groups.max()) + 1, len(groups))
    np.minimum.at(first, groups, sorted_numbers(images))
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[groups]


def _rows_by_type(groups: NDArray[np.int64], types: pd.Series | None) -> csr_matrix:
    """[g, t] rows of each group by product type; a single type if types is None."""
    numbers = np.zeros(len(groups), dtype=np.int64)
    if types is not None:
        numbers = sorted_numbers(types)
    ones = np.ones(len(groups), dtype=np.int64)
    return coo_matrix((ones, (groups, numbers))).tocsr()


def take_sides(table: pd.DataFrame, sides: _Positions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both sides with the column `row_id`, the row's position in the whole table.

    Args:
        table: the whole table.
        sides: positions of the train rows and of the test rows.

    Returns:
        The train rows and the test rows.
    """
    numbered = table.assign(row_id=np.arange(len(table)))
    train, test = (numbered.iloc[rows] for rows in sides)
    return train, test


def write_sides(
    source: Path, sides: _Positions, outputs: Sequence[Path], added: pd.DataFrame
) -> None:
    """Copy the rows of both sides to tables of their own, like `take_sides`, piece by piece.

    Args:
        source: the whole table.
        sides: positions of the train rows and of the test rows.
        outputs: where each side goes.
        added: columns that the source lacks, of all its rows.
    """
    if all((np.diff(rows) > 0).all() for rows in sides):
        with ExitStack() as stack:
            writers = [stack.enter_context(TableWriter(path)) for path in outputs]
            for piece in iter_table(source):
                numbers = piece.index.to_numpy(dtype=np.int64)
                whole = _with_columns(piece, added, numbers)
                for rows, writer in zip(sides, writers, strict=True):
                    first, last = np.searchsorted(rows, (numbers[0], numbers[-1] + 1))
                    writer.write(whole.loc[rows[first:last]])
        return
    table = read_table(source)
    for rows, path in zip(sides, outputs, strict=True):
        with TableWriter(path) as writer:
            for start in range(0, len(rows), _PIECE):
                some = rows[start : start + _PIECE]
                writer.write(_with_columns(table.iloc[some], added, some))


def _with_columns(
    piece: pd.DataFrame, added: pd.DataFrame, rows: NDArray[np.int64]
) -> pd.DataFrame:
    """Some rows with the columns that the table lacks, and `row_id`."""
    new = {str(name): added[name].iloc[rows].to_numpy(dtype=object) for name in added}
    return piece.assign(**new, row_id=rows)
