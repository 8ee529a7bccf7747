"""What train and test have in common: images, products, identical and look-alike pictures, answers.

    abo-vqa audit --train train.csv --test test.csv

works on any two tables with image_path, question and answer; what other columns there are (item_id,
image_sha1, phash, product_type) decides what else can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.data.groups import GROUP_COLUMNS, group_rows, has_columns
from abo_vqa.data.hashes import close_pairs, hash_bits, hash_graph
from abo_vqa.data.image_paths import unify_image_paths

VQA_COLUMNS = ("image_path", "question", "answer")
_EQUAL = {"images": "image_path", "products": "item_id", "identical_pictures": "image_sha1"}
# A picture whose value is empty can't be compared: it isn't known to be unlike the others.
_UNKNOWN = {name: column for name, column in _EQUAL.items() if name != "images"}
_UNKNOWN["near_duplicate_groups"] = "phash"
# Which findings make a split by this kind of group wrong.
_FORBIDDEN = {
    "image": ("images",),
    "product": ("images", "products"),
    "near-duplicate": ("images", "products", "identical_pictures", "near_duplicate_groups"),
}
PHASH_DISTANCE = 4


def audit_split(
    train: pd.DataFrame, test: pd.DataFrame, kind: str, distance: int
) -> dict[str, Any]:
    """Measure what two sides of a split share.

    Args:
        train, test: VQA tables. kind: the group the split is made by (see `groups.GROUP_COLUMNS`).
        distance: bits of 64 up to which two pictures count as look-alikes.
    Returns:
        rows, images: by side; groups: how many of that kind, the largest's images and rows;
        shared: distinct values on both sides, `near_duplicate_groups` with the same clusters as
        `groups.leader_clusters`; near_duplicates: test images with any look-alike in train, cluster or
        not; overlap: shares of test rows whose question, or question and answer, is in train;
        unchecked: pictures without a value, for which a check could not be made;
        types: the largest difference in a product type's share. A check whose column is missing is
        left out.
    Raises:
        UserError: a side has no rows, or a perceptual hash isn't 16 hex digits.
    """
    for side, table in (("train", train), ("test", test)):
        if table.empty:
            raise UserError(f"the {side} table has no rows: nothing to compare.")
    names = unify_image_paths(train["image_path"], test["image_path"])
    train, test = (t.assign(image_path=n) for t, n in zip((train, test), names, strict=True))
    both = pd.concat([train, test], ignore_index=True)
    hashed = "phash" in train and "phash" in test
    graph = hash_graph(both["phash"], distance) if hashed else None
    in_test = np.arange(len(both)) >= len(train)
    found: dict[str, Any] = {
        "rows": {"train": len(train), "test": len(test)},
        "images": {"train": train["image_path"].nunique(), "test": test["image_path"].nunique()},
        "groups": _group_sizes(both, group_rows(both, kind, distance, graph)),
        "shared": {
            name: len((set(train[column]) & set(test[column])) - {""})
            for name, column in _EQUAL.items()
            if column in train and column in test
        },
    }
    found["unchecked"] = {
        name: len(set(both["image_path"]) - set(both["image_path"][both[column] != ""]))
        for name, column in _UNKNOWN.items()
        if column in train and column in test
    }
    if hashed:
        groups = pd.Series(in_test).groupby(group_rows(both, "near-duplicate", distance, graph))
        found["shared"]["near_duplicate_groups"] = int((groups.nunique() > 1).sum())
        alike = count_near_duplicates(train, test, distance)
        share = alike / max(1, found["images"]["test"])
        found["near_duplicates"] = {"test_images": alike, "share": round(share, 6)}
    found["overlap"] = text_overlap(train, test)
    if "product_type" in train and "product_type" in test:
        left, right = (t["product_type"].value_counts(normalize=True) for t in (train, test))
        found["types"] = {
            "largest_difference": round(float(left.sub(right, fill_value=0).abs().max()), 6)
        }
    return found


def _group_sizes(table: pd.DataFrame, groups: np.ndarray[Any, Any]) -> dict[str, Any]:
    """How many groups there are, and how large the largest is, in images and in rows."""
    by_group = table.groupby(groups)["image_path"]
    return {
        "count": int(by_group.ngroups),
        "largest_images": int(by_group.nunique().max()),
        "largest_rows": int(by_group.size().max()),
        "with_several_images": int((by_group.nunique() > 1).sum()),
    }


def count_near_duplicates(train: pd.DataFrame, test: pd.DataFrame, distance: int) -> int:
    """Test images with a picture in train within the distance."""
    pictures = test.loc[test["phash"] != "", ["image_path", "phash"]].drop_duplicates()
    known = sorted(set(train["phash"]) - {""})
    hits = [
        i for i, _ in close_pairs(hash_bits(list(pictures["phash"])), hash_bits(known), distance)
    ]
    places = np.unique(np.concatenate(hits)) if hits else np.empty(0, dtype=int)
    return int(pictures["image_path"].iloc[places].nunique())


def text_overlap(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Shares of test rows whose question, or question and answer, occurs in train (any case).

    Rows without a question have none that could.
    """
    train, test = (t[t["question"].str.strip() != ""] for t in (train, test))
    seen: dict[str, float] = {}
    for name, columns in (("questions", ["question"]), ("pairs", ["question", "answer"])):
        left, right = (
            pd.MultiIndex.from_arrays([t[c].str.strip().str.lower() for c in columns])
            for t in (train, test)
        )
        seen[name] = round(float(right.isin(left).mean()), 6) if len(test) else 0.0
    return seen


def find_leaks(found: Mapping[str, Any], kind: str) -> dict[str, int]:
    """The findings that a split by this kind of group must not have, with their counts."""
    shared = found["shared"]
    return {name: shared[name] for name in _FORBIDDEN[kind] if shared.get(name)}


def strictest_group(columns: pd.Index) -> str:
    """The strictest kind of group that a table's columns allow."""
    return [kind for kind in GROUP_COLUMNS if has_columns(kind, columns)][-1]


def describe_audit(found: Mapping[str, Any], kind: str) -> str:
    """The audit for the terminal."""
    rows, images, groups = found["rows"], found["images"], found["groups"]
    lines = [
        f"train {rows['train']:,} rows of {images['train']:,} images, "
        f"test {rows['test']:,} rows of {images['test']:,} images; {groups['count']:,} groups by "
        f"{kind}, the largest with {_counted(groups['largest_images'], 'image')}"
    ]
    for name in _FORBIDDEN["near-duplicate"]:
        count = found["shared"].get(name)
        text = "not checked: the column isn't there" if count is None else f"{count:,}"
        lines.append(f"  shared {name.replace('_', ' '):24}{text}{_not_checked(found, name)}")
    if "near_duplicates" in found:
        lines += _look_alikes_left(found, kind)
    seen = found["overlap"]
    lines.append(
        f"  {seen['questions']:.1%} of the test rows ask a question that train asks too; "
        f"for {seen['pairs']:.1%} the answer is the same as well"
    )
    return "\n".join(lines)


def _counted(n: int, noun: str) -> str:
    """ "1 picture", "1,200 pictures"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _not_checked(found: Mapping[str, Any], name: str) -> str:
    """For how many pictures a check could not be made, "" if it was for all."""
    unknown = found["unchecked"].get(name, 0)
    return f" (not checked for {_counted(unknown, 'picture')})" if unknown else ""


def _look_alikes_left(found: Mapping[str, Any], kind: str) -> list[str]:
    """Lines about test images with a look-alike in train, and about those nobody can tell of."""
    alike, name = found["near_duplicates"], "near_duplicate_groups"
    unknown = found["unchecked"].get(name, 0)
    count = f"{alike['test_images']:,}{_not_checked(found, name)}"
    lines = [f"  test images that look like one in train: {count}"]
    if alike["test_images"]:
        why = "groups by near-duplicate keep nearly all such pictures on one side"
        if kind == "near-duplicate" and not found["shared"][name]:
            why = "groups that touch were parted, together they are too large for the test set"
        lines.append(f"  warning: that is {alike['share']:.1%} of the test images; {why}")
    if unknown:
        lines.append(
            f"  warning: {unknown:,} pictures have no perceptual hash and count as unlike all "
            "others; --images DIR hashes pictures at hand"
        )
    return lines


def share_warnings(found: Mapping[str, Any], kind: str, test_size: float) -> list[str]:
    """A line, where the test set's share is a point, and a picture, from what was asked for."""
    unit = "images" if kind == "image" else "rows"
    sizes = found[unit]
    given = sizes["test"] / (sizes["train"] + sizes["test"])
    if abs(given - test_size) <= max(0.01, 1 / sum(found["images"].values())):
        return []
    largest = found["groups"][f"largest_{unit}"] / (sizes["train"] + sizes["test"])
    return [
        f"  warning: {test_size:.1%} of the {unit} were asked for test, {given:.1%} given: groups "
        f"by {kind} stay whole, and the largest holds {largest:.1%}"
    ]


def refuse_leaks(found: Mapping[str, Any], kind: str, distance: int = PHASH_DISTANCE) -> None:
    """Raise UserError if a group of this kind, at this distance, straddles the split."""
    bad = find_leaks(found, kind)
    if bad:
        what = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in bad.items())
        usual = kind != "near-duplicate" or distance == PHASH_DISTANCE
        options = f"--group {kind}" + ("" if usual else f" --distance {distance}")
        raise UserError(
            f"train and test share {what}: scores on this test set would flatter any model that "
            f"remembers. Split again with groups by {kind} "
            f"(`abo-vqa split --vqa FILE --out DIR {options}`)."
        )
