"""An audit in words, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abo_vqa.data.audit import CHECKS, check_label, find_leaks
from abo_vqa.data.groups import BY_SIMILARITY


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
    checks = CHECKS if kind != "variant" else (*CHECKS, "variant_groups")
    for name in checks:
        count = report["shared"].get(name)
        text = "not checked: the column isn't there" if count is None else f"{count:,}"
        lines.append(f"  shared {check_label(name):24}{text}{_unchecked_note(report, name)}")
    if "near_duplicates" in report:
        lines += _near_duplicate_lines(report, kind)
    overlap = report["overlap"]
    lines.append(
        f"  {overlap['questions']:.1%} of the test rows ask a question that train asks too; "
        f"for {overlap['pairs']:.1%} the answer is the same as well"
    )
    return "\n".join(lines)


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
        if kind in BY_SIMILARITY and not find_leaks(report, kind):
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
