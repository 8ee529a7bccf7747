"""What train and test share: images, products, identical and near-duplicate images, answers.

    abo-vqa audit --train train.csv --test test.csv

works on any two tables with image_path, question and answer; the other columns (item_id,
image_sha1, phash, product_type) decide what else can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.groups import BY_SIMILARITY, group_rows
from abo_vqa.data.hashes import without_content
from abo_vqa.data.image_paths import unify_image_paths
from abo_vqa.data.similarity import SimilarityGraph
from abo_vqa.data.similarity_rule import SimilarityRule

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
    names = unify_image_paths(train["image_path"], test["image_path"])
    train, test = (t.assign(image_path=n) for t, n in zip((train, test), names, strict=True))
    common = [name for name in train if name in test]
    both = pd.concat([train[common], test[common]], ignore_index=True)
    graph = rule.graph(both) if "phash" in common else None
    own = group_rows(both, kind, rule, graph)
    report: dict[str, Any] = {
        "rows": {"train": len(train), "test": len(test)},
        "images": {"train": train["image_path"].nunique(), "test": test["image_path"].nunique()},
        "groups": _group_sizes(both, own),
        "shared": _shared_values(train, test),
        "unchecked": _unchecked_images(both, graph),
    }
    if graph is not None:
        report |= _compare_images(both, len(train), rule, graph, report["shared"])
    if kind == "variant":
        report["shared"]["variant_groups"] = _groups_on_both_sides(own, len(train))
    report["overlap"] = text_overlap(train, test)
    if "product_type" in common:
        report["types"] = {"largest_difference": _largest_type_difference(train, test)}
    return report


def _compare_images(
    both: pd.DataFrame,
    train_rows: int,
    rule: SimilarityRule,
    graph: SimilarityGraph,
    shared: dict[str, int],
) -> dict[str, Any]:
    """What depends on which images are alike; the number of shared groups goes into `shared`."""
    groups = group_rows(both, "near-duplicate", rule, graph)
    shared["near_duplicate_groups"] = _groups_on_both_sides(groups, train_rows)
    count = _exposed_images(both["image_path"], train_rows, graph)
    images = both["image_path"].iloc[train_rows:].nunique()
    report: dict[str, Any] = {
        "near_duplicates": {"test_images": count, "share": round(count / max(1, images), 6)}
    }
    plain = without_content(both["phash"]) & (graph.nodes < 0)
    if empty := int(both.loc[plain, "image_path"].nunique()):
        report["hashes_without_content"] = empty
    return report


def _refuse_empty(**tables: pd.DataFrame) -> None:
    """Raise UserError if a side has no rows."""
    for side, table in tables.items():
        if table.empty:
            raise UserError(f"the {side} table has no rows: nothing to compare.")


def _groups_on_both_sides(groups: NDArray[np.int64], train_rows: int) -> int:
    """How many groups have rows among the first `train_rows` and among the others."""
    return len(set(groups[:train_rows]) & set(groups[train_rows:]))


def _shared_values(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, int]:
    """How many values of each column that both sides have are on both."""
    return {
        name: len((set(train[column]) & set(test[column])) - {""})
        for name, column in _EQUAL.items()
        if column in train and column in test
    }


def _unchecked_images(table: pd.DataFrame, graph: SimilarityGraph | None) -> dict[str, int]:
    """How many images lack the value for each check that can be made.

    An image whose value is empty can't be compared; it isn't known to be unlike the others.
    """
    known = {
        name: table[column] != ""
        for name, column in _EQUAL.items()
        if name != "images" and column in table
    }
    if graph is not None:
        known["near_duplicate_groups"] = pd.Series(graph.nodes >= 0, index=table.index)
    paths = table["image_path"]
    return {name: len(set(paths) - set(paths[has])) for name, has in known.items()}


def _largest_type_difference(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """The largest difference between the shares of a product type."""
    left, right = (t["product_type"].value_counts(normalize=True) for t in (train, test))
    return round(float(left.sub(right, fill_value=0).abs().max()), 6)


def _group_sizes(table: pd.DataFrame, groups: NDArray[np.int64]) -> dict[str, int]:
    """How many groups there are, and how large the largest is, in images and in rows."""
    by_group = table.groupby(groups)["image_path"]
    return {
        "count": int(by_group.ngroups),
        "largest_images": int(by_group.nunique().max()),
        "largest_rows": int(by_group.size().max()),
        "with_several_images": int((by_group.nunique() > 1).sum()),
    }


def count_near_duplicates(train: pd.DataFrame, test: pd.DataFrame, rule: SimilarityRule) -> int:
    """Count the test images that have a near-duplicate in train.

    Args:
        train: with the columns image_path and phash.
        test: the same.
        rule: which images are near-duplicates.
    """
    both = pd.concat([train, test], ignore_index=True)
    return _exposed_images(both["image_path"], len(train), rule.graph(both))


def _exposed_images(paths: pd.Series, train_rows: int, graph: SimilarityGraph) -> int:
    """How many images of the rows after the first `train_rows` are like one of these."""
    in_test = np.arange(len(paths)) >= train_rows
    return int(paths[in_test & graph.resembles(~in_test)].nunique())


def text_overlap(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Measure which texts of test occur in train, in any case; blank questions don't count.

    Args:
        train: a VQA table.
        test: another.

    Returns:
        shares of test rows: `questions`, whose question is in train; `pairs`, whose question and
        answer are.
    """
    train, test = (t[t["question"].str.strip() != ""] for t in (train, test))
    shares: dict[str, float] = {}
    for name, columns in (("questions", ["question"]), ("pairs", ["question", "answer"])):
        left, right = (
            pd.MultiIndex.from_arrays([t[c].str.strip().str.lower() for c in columns])
            for t in (train, test)
        )
        shares[name] = round(float(right.isin(left).mean()), 6) if len(test) else 0.0
    return shares


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
