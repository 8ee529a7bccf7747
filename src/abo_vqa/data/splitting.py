"""Split a VQA table into train and test rows that share no group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix

from abo_vqa.core.errors import UserError
from abo_vqa.data.assignment import Bundles, Exposure, assign_bundles
from abo_vqa.data.groups import BY_SIMILARITY, bundle_groups, group_rows, require_columns
from abo_vqa.data.image_paths import unify_image_paths
from abo_vqa.data.similarity import SimilarityGraph
from abo_vqa.data.similarity_rule import SimilarityRule

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

_WHOLE_SHARE = 0.5  # of the smaller side; a component with more rows is cut
_BUNDLE_SHARE = 0.02  # of all rows: what it is cut into; ten bundles fill a test set of a fifth

_Positions = tuple["NDArray[np.int64]", "NDArray[np.int64]"]


def split_rows(
    table: pd.DataFrame,
    kind: str,
    test_size: float,
    seed: int,
    *,
    rule: SimilarityRule,
    stratify: bool,
) -> _Positions:
    """Choose the rows of train and test.

    Args:
        table: a VQA table with the columns `groups.REQUIRED_COLUMNS[kind]`.
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
    if table.empty:
        raise UserError("the VQA table has no rows: nothing to split.")
    table = table.assign(image_path=unify_image_paths(table["image_path"])[0])
    if kind == "image":
        sides = _study_split(table, test_size, seed)
    else:
        sides = _grouped_split(table, kind, test_size, seed, rule=rule, stratify=stratify)
    if not all(map(len, sides)):
        raise UserError(
            f"the table's groups by {kind} are too few or too large for a test set of "
            f"{test_size:.0%}. Use a smaller kind of group, or more data."
        )
    return sides


def _study_split(table: pd.DataFrame, test_size: float, seed: int) -> _Positions:
    """The study's split: whole images drawn by scikit-learn, in the order drawn."""
    from sklearn.model_selection import train_test_split  # a second, which other kinds needn't pay

    images = list(table.groupby("image_path", sort=True).indices.values())
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
    table: pd.DataFrame,
    kind: str,
    test_size: float,
    seed: int,
    *,
    rule: SimilarityRule,
    stratify: bool,
) -> _Positions:
    """Whole groups assigned to the sides (see `assignment`); rows keep their order."""
    require_columns(table, kind)
    graph = rule.graph(table) if kind in BY_SIMILARITY else None
    groups = _renumber_by_image(group_rows(table, kind, rule, graph), table["image_path"])
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
    rows = pd.DataFrame({"path": paths.to_numpy(), "bundle": bundles, "node": graph.nodes})
    images = rows.sort_values("node", ascending=False, kind="stable").drop_duplicates("path")
    once = SimilarityGraph(images["node"].to_numpy(), graph.adjacency)
    return Exposure(images["bundle"].to_numpy(), once)


def _renumber_by_image(groups: NDArray[np.int64], images: pd.Series) -> NDArray[np.int64]:
    """Number groups by their first image's name, so that the order of rows doesn't matter."""
    first = images.groupby(groups).min()
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first.to_numpy(dtype=object), kind="stable")] = np.arange(len(first))
    return rank[groups]


def _rows_by_type(groups: NDArray[np.int64], types: pd.Series | None) -> csr_matrix:
    """[g, t] rows of each group by product type; a single type if types is None."""
    numbers = np.zeros(len(groups), dtype=np.int64)
    if types is not None:
        numbers = pd.factorize(types, sort=True)[0]
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
