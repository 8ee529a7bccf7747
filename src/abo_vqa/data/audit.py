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
from abo_vqa.data.groups import GROUP_COLUMNS, comparable_hashes, group_rows, has_columns
from abo_vqa.data.hashes import close_pairs, hash_bits, hash_graph, without_content
from abo_vqa.data.image_paths import unify_image_paths

if TYPE_CHECKING:
    from numpy.typing import NDArray

VQA_COLUMNS = ("image_path", "question", "answer")
"""The columns that every VQA table has."""

PHASH_DISTANCE = 4
"""The default maximum number of different bits, of 64, between near-duplicates."""

_EQUAL = {"images": "image_path", "products": "item_id", "identical_pictures": "image_sha1"}
# An image whose value is empty can't be compared; it isn't known to be unlike the others.
_UNKNOWN = {name: column for name, column in _EQUAL.items() if name != "images"}
_UNKNOWN["near_duplicate_groups"] = "phash"
# What a split by this kind of group must not share.
_FORBIDDEN = {
    "image": ("images",),
    "product": ("images", "products"),
    "near-duplicate": ("images", "products", "identical_pictures", "near_duplicate_groups"),
}


def audit_split(
    train: pd.DataFrame, test: pd.DataFrame, kind: str, distance: int
) -> dict[str, Any]:
    """Measure what the two sides of a split share.

    A check whose column is missing is left out.

    Args:
        train: a VQA table.
        test: another.
        kind: the kind of group that the split is made by (see `groups.group_rows`).
        distance: how many of 64 bits near-duplicates may differ in.

    Returns:
        rows, images: their numbers on each side;
        groups: how many there are, and the images and rows of the largest;
        shared: how many values are on both sides; near_duplicate_groups are the clusters of
        `groups.leader_clusters`;
        unchecked: how many images lack the value for a check;
        hashes_without_content: how many images have a hash that says nothing (see
        `hashes.without_content`) and count as having none; left out if there are none;
        near_duplicates: test images with a near-duplicate in train, in the same cluster or not;
        overlap: see `text_overlap`;
        types: the largest difference between the shares of a product type.

    Raises:
        UserError: a side has no rows, or a perceptual hash isn't 16 hex digits.
    """
    _refuse_empty(train=train, test=test)
    names = unify_image_paths(train["image_path"], test["image_path"])
    train, test = (t.assign(image_path=n) for t, n in zip((train, test), names, strict=True))
    both = pd.concat([train, test], ignore_index=True)
    common = set(train) & set(test)
    empty = 0
    if "phash" in common:
        empty = int(both.loc[without_content(both["phash"]), "image_path"].nunique())
        tables = (train, test, both)
        train, test, both = (t.assign(phash=comparable_hashes(t["phash"])) for t in tables)
    graph = hash_graph(both["phash"], distance) if "phash" in common else None
    report: dict[str, Any] = {
        "rows": {"train": len(train), "test": len(test)},
        "images": {"train": train["image_path"].nunique(), "test": test["image_path"].nunique()},
        "groups": _group_sizes(both, group_rows(both, kind, distance, graph)),
        "shared": _shared_values(train, test),
        "unchecked": _unchecked_images(both[list(common)]),
    }
    if empty:
        report["hashes_without_content"] = empty
    if graph is not None:
        groups = group_rows(both, "near-duplicate", distance, graph)
        report["shared"]["near_duplicate_groups"] = _groups_on_both_sides(groups, len(train))
        count = count_near_duplicates(train, test, distance)
        share = round(count / max(1, report["images"]["test"]), 6)
        report["near_duplicates"] = {"test_images": count, "share": share}
    report["overlap"] = text_overlap(train, test)
    if "product_type" in common:
        report["types"] = {"largest_difference": _largest_type_difference(train, test)}
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


def _unchecked_images(table: pd.DataFrame) -> dict[str, int]:
    """How many images lack the value for each check that can be made."""
    return {
        name: len(set(table["image_path"]) - set(table["image_path"][table[column] != ""]))
        for name, column in _UNKNOWN.items()
        if column in table
    }


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


def count_near_duplicates(train: pd.DataFrame, test: pd.DataFrame, distance: int) -> int:
    """Count the test images that have a near-duplicate in train.

    Args:
        train: with the column phash.
        test: with the columns image_path and phash.
        distance: how many of 64 bits may differ.
    """
    images = test.assign(phash=comparable_hashes(test["phash"]))
    images = images.loc[images["phash"] != "", ["image_path", "phash"]].drop_duplicates()
    known = sorted(set(comparable_hashes(train["phash"])) - {""})
    hits = [i for i, _ in close_pairs(hash_bits(list(images["phash"])), hash_bits(known), distance)]
    indices = np.unique(np.concatenate(hits)) if hits else np.empty(0, dtype=int)
    return int(images["image_path"].iloc[indices].nunique())


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


def strictest_group(columns: pd.Index) -> str:
    """Return the strictest kind of group that a table's columns allow.

    Args:
        columns: the table's.
    """
    return [kind for kind in GROUP_COLUMNS if has_columns(kind, columns)][-1]


def describe_audit(report: Mapping[str, Any], kind: str) -> str:
    """Format an audit for the terminal.

    Args:
        report: of `audit_split`.
        kind: the kind of group that the split is made by.
    """
    rows, images, groups = report["rows"], report["images"], report["groups"]
    lines = [
        f"train {rows['train']:,} rows of {images['train']:,} images, "
        f"test {rows['test']:,} rows of {images['test']:,} images; {groups['count']:,} groups by "
        f"{kind}, the largest with {_plural(groups['largest_images'], 'image')}"
    ]
    for name in _FORBIDDEN["near-duplicate"]:
        count = report["shared"].get(name)
        text = "not checked: the column isn't there" if count is None else f"{count:,}"
        lines.append(f"  shared {_label(name):24}{text}{_unchecked_note(report, name)}")
    if "near_duplicates" in report:
        lines += _near_duplicate_lines(report, kind)
    overlap = report["overlap"]
    lines.append(
        f"  {overlap['questions']:.1%} of the test rows ask a question that train asks too; "
        f"for {overlap['pairs']:.1%} the answer is the same as well"
    )
    return "\n".join(lines)


def _label(name: str) -> str:
    """The name of a check in words: "identical images" for the key identical_pictures."""
    return name.replace("_", " ").replace("picture", "image")


def _plural(n: int, noun: str) -> str:
    """A count with its noun: "1 image", "1,200 images"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _unchecked_note(report: Mapping[str, Any], name: str) -> str:
    """For how many images a check could not be made; "" if it was made for all."""
    unknown = report["unchecked"].get(name, 0)
    return f" (not checked for {_plural(unknown, 'image')})" if unknown else ""


def _near_duplicate_lines(report: Mapping[str, Any], kind: str) -> list[str]:
    """Lines about test images that have near-duplicates in train, and about unknown ones."""
    counts, name = report["near_duplicates"], "near_duplicate_groups"
    unknown = report["unchecked"].get(name, 0)
    count = f"{counts['test_images']:,}{_unchecked_note(report, name)}"
    lines = [f"  test images that look like one in train: {count}"]
    if counts["test_images"]:
        why = "groups by near-duplicate keep nearly all such images on one side"
        if kind == "near-duplicate" and not report["shared"][name]:
            why = "groups that touch were separated: together they are too large for the test set"
        lines.append(f"  warning: that is {counts['share']:.1%} of the test images; {why}")
    empty = report.get("hashes_without_content", 0)
    if empty:
        lines.append(
            f"  warning: the hashes of {_plural(empty, 'image')} have no content (plain areas): "
            "such images were compared by the bytes of their files alone"
        )
    if unknown > empty:
        lines.append(
            f"  warning: {unknown - empty:,} images have no perceptual hash and count as unlike "
            "all others; --images DIR hashes those that you have"
        )
    return lines


def share_warnings(report: Mapping[str, Any], kind: str, test_size: float) -> list[str]:
    """Warn where the test set's share isn't what was asked for.

    A percentage point, or a single image, is tolerated.

    Args:
        report: of `audit_split`.
        kind: the kind of group that the split is made by.
        test_size: the share that was asked for.

    Returns:
        one line, or none.
    """
    unit = "images" if kind == "image" else "rows"
    sizes = report[unit]
    total = sizes["train"] + sizes["test"]
    actual = sizes["test"] / total
    if abs(actual - test_size) <= max(0.01, 1 / sum(report["images"].values())):
        return []
    largest = report["groups"][f"largest_{unit}"] / total
    return [
        f"  warning: {test_size:.1%} of the {unit} were asked for test, {actual:.1%} given: groups "
        f"by {kind} stay whole, and the largest holds {largest:.1%}"
    ]


def refuse_leaks(report: Mapping[str, Any], kind: str, distance: int = PHASH_DISTANCE) -> None:
    """Raise UserError if the sides share a group.

    Args:
        report: of `audit_split`.
        kind: the kind of group that the split is made by.
        distance: how many of 64 bits near-duplicates may differ in.
    """
    leaks = find_leaks(report, kind)
    if leaks:
        what = ", ".join(f"{count:,} {_label(name)}" for name, count in leaks.items())
        usual = kind != "near-duplicate" or distance == PHASH_DISTANCE
        options = f"--group {kind}" + ("" if usual else f" --distance {distance}")
        raise UserError(
            f"train and test share {what}: scores on this test set would flatter any model that "
            f"remembers. Split again with groups by {kind} "
            f"(`abo-vqa split --vqa FILE --out DIR {options}`)."
        )
