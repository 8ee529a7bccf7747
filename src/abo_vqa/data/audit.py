"""What train and test share: images, products, identical and near-duplicate images, answers.

    abo-vqa audit --train train.csv --test test.csv

works on any two tables with image_path, question and answer; the other columns (item_id,
image_sha1, phash, product_type) decide what else can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.groups import BY_SIMILARITY, group_rows, require_columns
from abo_vqa.data.hashes import without_content
from abo_vqa.data.key_columns import compact_table, run_starts
from abo_vqa.data.similarity import SimilarityGraph
from abo_vqa.data.similarity_rule import ComparedTable, SimilarityRule

if TYPE_CHECKING:
    from numpy.typing import NDArray

VQA_COLUMNS = ("image_path", "question", "answer")
"""The columns that every VQA table has."""

CHECKS = ("images", "products", "identical_pictures", "near_duplicate_groups")
"""What every audit counts on both sides, as far as the columns are there."""

_EQUAL = {"images": "image_path", "products": "item_id", "identical_pictures": "image_sha1"}
# What a split by this kind of group must not share.
_FORBIDDEN = {
    "image": ("images",),
    "product": ("images", "products"),
    "near-duplicate": CHECKS,
    # Its clusters have other centres than those of near-duplicates alone, which may touch them.
    "variant": ("images", "products", "identical_pictures", "variant_groups"),
}


def audit_split(
    train: pd.DataFrame, test: pd.DataFrame, kind: str, rule: SimilarityRule
) -> dict[str, Any]:
    """Measure what the two sides of a split share.

    A check whose column is missing is left out.

    Args:
        train: a VQA table.
        test: another.
        kind: the kind of group that the split is made by (see `groups.group_rows`).
        rule: which images are near-duplicates.

    Returns:
        rows, images: their numbers on each side;
        groups: how many there are, and the images and rows of the largest;
        shared: how many values are on both sides; near_duplicate_groups are the clusters of
        `groups.leader_clusters`, variant_groups those of the kind "variant" if that is the kind;
        unchecked: how many images lack the value for a check;
        hashes_without_content: how many images have a hash that says nothing (see
        `hashes.without_content`), have no vector either, and count as having none; left out if
        there are none;
        near_duplicates: test images with a near-duplicate in train, in the same cluster or not;
        overlap: see `text_overlap`;
        types: the largest difference between the shares of a product type.

    Raises:
        UserError: a side has no rows, or a perceptual hash isn't 16 hex digits.
    """
    _refuse_empty(train=train, test=test)
    require_columns(train[[name for name in train if name in test]], kind)
    both = ComparedTable.of((train, test), rule, VQA_COLUMNS)
    return _audit(both.table, np.arange(len(both.table)) >= len(train), kind, rule, both.graph)


def audit_sides(
    compared: ComparedTable, sides: Sequence[NDArray[np.int64]], kind: str
) -> dict[str, Any]:
    """Audit the split of a table whose images are compared already; see `audit_split`.

    Args:
        compared: the whole table, with `VQA_COLUMNS`.
        sides: positions of the train rows and of the test rows.
        kind: the kind of group that the split is made by.
    """
    rows = np.concatenate(sides)
    both = compared.table.iloc[rows].reset_index(drop=True)
    graph = None if compared.graph is None else compared.graph.take(rows)
    return _audit(both, np.arange(len(rows)) >= len(sides[0]), kind, compared.rule, graph)


def _audit(
    both: pd.DataFrame,
    in_test: NDArray[np.bool_],
    kind: str,
    rule: SimilarityRule,
    graph: SimilarityGraph | None,
) -> dict[str, Any]:
    """Audit the two sides of a compact table."""
    own = group_rows(both, kind, rule, graph)
    images = _numbers(both["image_path"])
    report: dict[str, Any] = {
        "rows": {"train": int((~in_test).sum()), "test": int(in_test.sum())},
        "images": {"train": _distinct(images[~in_test]), "test": _distinct(images[in_test])},
        "groups": _group_sizes(images, own),
        "shared": _shared_values(both, in_test),
        "unchecked": _unchecked_images(both, graph),
    }
    if graph is not None:
        groups = own if kind == "near-duplicate" else None
        report |= _compare_images(both, in_test, rule, graph, report["shared"], groups)
    if kind == "variant":
        report["shared"]["variant_groups"] = len(_on_both_sides(own, in_test))
    report["overlap"] = _text_overlap(both, in_test)
    if "product_type" in both:
        difference = _largest_difference(_numbers(both["product_type"]), in_test)
        report["types"] = {"largest_difference": difference}
    return report


def _compare_images(
    both: pd.DataFrame,
    in_test: NDArray[np.bool_],
    rule: SimilarityRule,
    graph: SimilarityGraph,
    shared: dict[str, int],
    groups: NDArray[np.int64] | None,
) -> dict[str, Any]:
    """What depends on which images are alike; the number of shared groups goes into `shared`."""
    if groups is None:
        groups = group_rows(both, "near-duplicate", rule, graph)
    shared["near_duplicate_groups"] = len(_on_both_sides(groups, in_test))
    images = _numbers(both["image_path"])
    count = _distinct(images[in_test & graph.resembles(~in_test)])
    share = count / max(1, _distinct(images[in_test]))
    report: dict[str, Any] = {"near_duplicates": {"test_images": count, "share": round(share, 6)}}
    if empty := _distinct(images[without_content(both["phash"]) & (graph.nodes < 0)]):
        report["hashes_without_content"] = empty
    return report


def _refuse_empty(**tables: pd.DataFrame) -> None:
    """Raise UserError if a side has no rows."""
    for side, table in tables.items():
        if table.empty:
            raise UserError(f"the {side} table has no rows: nothing to compare.")


def _numbers(column: pd.Series) -> NDArray[np.int64]:
    """[n] the number of each row's text in a column of a compact table."""
    return column.cat.codes.to_numpy(dtype=np.int64).astype(np.int64, copy=False)


def _distinct(numbers: NDArray[np.int64]) -> int:
    """How many different numbers there are."""
    return int(np.count_nonzero(np.bincount(numbers)))


def _on_both_sides(numbers: NDArray[np.int64], in_test: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The numbers that rows of both sides have."""
    count = int(numbers.max(initial=-1)) + 1
    train, test = (np.bincount(numbers[side], minlength=count) for side in (~in_test, in_test))
    return np.flatnonzero((train > 0) & (test > 0)).astype(np.int64)


def _shared_values(both: pd.DataFrame, in_test: NDArray[np.bool_]) -> dict[str, int]:
    """How many values of each column are on both sides; an empty one is none."""
    shared = {}
    for name, column in _EQUAL.items():
        if column in both:
            known = (both[column] != "").to_numpy(dtype=bool)
            shared[name] = len(_on_both_sides(_numbers(both[column])[known], in_test[known]))
    return shared


def _unchecked_images(table: pd.DataFrame, graph: SimilarityGraph | None) -> dict[str, int]:
    """How many images lack the value for each check that can be made.

    An image whose value is empty can't be compared; it isn't known to be unlike the others.
    """
    known = {
        name: (table[column] != "").to_numpy(dtype=bool)
        for name, column in _EQUAL.items()
        if name != "images" and column in table
    }
    if graph is not None:
        known["near_duplicate_groups"] = graph.nodes >= 0
    images = _numbers(table["image_path"])
    return {name: _distinct(images) - _distinct(images[has]) for name, has in known.items()}


def _largest_difference(types: NDArray[np.int64], in_test: NDArray[np.bool_]) -> float:
    """The largest difference between the shares of a product type."""
    count = int(types.max()) + 1
    train, test = (
        np.bincount(types[side], minlength=count) / side.sum() for side in (~in_test, in_test)
    )
    return round(float(np.abs(train - test).max()), 6)


def _group_sizes(images: NDArray[np.int64], groups: NDArray[np.int64]) -> dict[str, int]:
    """How many groups there are, and how large the largest is, in images and in rows."""
    width = int(images.max()) + 1
    starts = run_starts(groups, images)
    pairs = np.sort(groups[starts] * width + images[starts])  # np.unique would hash them
    of_images = np.bincount(pairs[run_starts(pairs)] // width)
    return {
        "count": len(of_images),
        "largest_images": int(of_images.max()),
        "largest_rows": int(np.bincount(groups).max()),
        "with_several_images": int((of_images > 1).sum()),
    }


def count_near_duplicates(train: pd.DataFrame, test: pd.DataFrame, rule: SimilarityRule) -> int:
    """Count the test images that have a near-duplicate in train.

    Args:
        train: with the columns image_path and phash.
        test: the same.
        rule: which images are near-duplicates.
    """
    both = compact_table((train, test), ("image_path", "phash"))
    in_test = np.arange(len(both)) >= len(train)
    exposed = in_test & rule.graph(both).resembles(~in_test)
    return _distinct(_numbers(both["image_path"])[exposed])


def text_overlap(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Measure which texts of test occur in train, in any case; blank questions don't count.

    Args:
        train: a VQA table.
        test: another.

    Returns:
        shares of test rows: `questions`, whose question is in train; `pairs`, whose question and
        answer are.
    """
    both = compact_table((train, test), ("question", "answer"))
    return _text_overlap(both, np.arange(len(both)) >= len(train))


def _text_overlap(both: pd.DataFrame, in_test: NDArray[np.bool_]) -> dict[str, float]:
    """`text_overlap` of a compact table of both sides."""
    (questions, blank), (answers, _) = (_folded(both[name]) for name in ("question", "answer"))
    asked = questions != blank
    pairs = questions * (int(answers.max(initial=0)) + 1) + answers
    shares: dict[str, float] = {}
    for name, numbers in (("questions", questions), ("pairs", pairs)):
        test = numbers[in_test & asked]
        repeated = np.isin(test, numbers[~in_test & asked])
        shares[name] = round(float(repeated.mean()), 6) if len(test) else 0.0
    return shares


def _folded(column: pd.Series) -> tuple[NDArray[np.int64], int]:
    """[n] the number of each row's text without its case and outer blanks; "" has the last one."""
    texts = [*(text.strip().lower() for text in column.cat.categories), ""]
    places = pd.factorize(np.array(texts, dtype=object))[0]
    return places[_numbers(column)], int(places[-1])


def find_leaks(report: Mapping[str, Any], kind: str) -> dict[str, int]:
    """Return what the sides share and must not, with counts.

    Args:
        report: of `audit_split`.
        kind: the kind of group that the split is made by.
    """
    shared = report["shared"]
    return {name: shared[name] for name in _FORBIDDEN[kind] if shared.get(name)}


def refuse_leaks(report: Mapping[str, Any], kind: str, options: str = "") -> None:
    """Raise UserError if the sides share a group.

    Args:
        report: of `audit_split`.
        kind: the kind of group that the split is made by.
        options: of `split` and `audit` that aren't the usual ones, and count for this kind.
    """
    leaks = find_leaks(report, kind)
    if leaks:
        what = ", ".join(f"{count:,} {check_label(name)}" for name, count in leaks.items())
        more = f" {options}" if options and kind in BY_SIMILARITY else ""
        raise UserError(
            f"train and test share {what}: scores on this test set would flatter any model that "
            f"remembers. Split again with groups by {kind} "
            f"(`abo-vqa split --vqa FILE --out DIR --group {kind}{more}`)."
        )


def check_label(name: str) -> str:
    """Return the name of a check in words: "identical images" for the key identical_pictures.

    Args:
        name: a key of the report's `shared`.
    """
    return name.replace("_", " ").replace("picture", "image")
