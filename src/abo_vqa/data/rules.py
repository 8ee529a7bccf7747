"""The study's rules: which listing describes an image, and which rows are good enough.

They are the published study's to the letter, so that results can be compared with its figures. A
later listing of the same image replaces an earlier one; of name, type and colour only the first
value counts; a row needs all four fields, the first three in ASCII. Dropped rows are counted by
reason.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from abo_vqa.core.config import CurateConfig
from abo_vqa.data.archive import Archive
from abo_vqa.data.listings import BrokenLines, Field, FieldValue, Listing

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIELDS = ("name", "product_type", "color", "keywords")
"""The fields of a listing that the study uses."""

EXTRAS = ("brand", "material", "pattern", "item_shape", "style", "finish_type")
"""Other fields that describe what an image shows."""

_ASCII = FIELDS[:3]
_COLUMNS = ("image_path", *FIELDS, "image_id", "item_id", *EXTRAS)

_LanguageRule = Callable[[Field], str]


def first_en(field: Field) -> str:
    """Pick a field's first value unless it is tagged as not English: the study's rule.

    Later values aren't considered, so an English name after a Japanese one is lost.

    Args:
        field: a field of a listing; a plain string counts whatever its language.

    Returns:
        the text, or "".
    """
    if field is None or isinstance(field, str):
        return field or ""
    if not field:
        return ""
    entry = field[0]
    tag = entry.language_tag
    return (entry.value or "") if tag is None or tag.startswith("en_") else ""


def any_en(field: Field) -> str:
    """Pick a field's first English value, else the first without a language.

    Args:
        field: a field of a listing; a plain string counts whatever its language.

    Returns:
        the text, or "".
    """
    if field is None or isinstance(field, str):
        return field or ""
    untagged = ""
    for entry in field:
        value, tag = entry.value, entry.language_tag
        if value and tag is None:
            untagged = untagged or value
        elif value and tag and tag.startswith("en"):
            return value
    return untagged


LANGUAGE_RULES: dict[str, _LanguageRule] = {"first_en": first_en, "any_en": any_en}
"""The values of `curate.language`."""

_OTHER = {"first_en": "any_en", "any_en": "first_en"}


def joined_keywords(field: Field) -> str:
    """Join a field's English and untagged values by ", ": stripped, in lower case, each once.

    Args:
        field: the keywords of a listing.
    """
    if field is None:
        return ""
    entries = [FieldValue(field)] if isinstance(field, str) else field
    values = [
        entry.value
        for entry in entries
        if entry.value and ((tag := entry.language_tag) is None or tag.startswith("en"))
    ]
    # Lower-casing once per listing instead of thirty times; no real value holds a NUL.
    words = "\0".join(values).lower().split("\0")
    return ", ".join(filter(None, dict.fromkeys(map(str.strip, words))))


def _rejection(values: tuple[str, str, str], required: frozenset[str]) -> str:
    """Why name, product_type and color can't be used; "" if they can.

    A missing field takes precedence over one that isn't ASCII.
    """
    if all(values) and "".join(values).isascii():
        return ""
    for name, value in zip(_ASCII, values, strict=True):
        if not value and name in required:
            return f"no_{name}"
    for name, value in zip(_ASCII, values, strict=True):
        if not value.isascii() and name in required:
            return f"non_ascii_{name}"
    return ""


@dataclass
class _CollectedListings:
    """What the listings say about each image.

    Attributes:
        latest: an image id → the last listing's row (FIELDS, item id, EXTRAS), or the reason why
            there is none.
        kept_by_other_rule: ids of images that the other language rule would keep.
        read: how many listings there are.
        without_image: how many of them name no image.
        overwritten: how many were replaced by a later one.
    """

    latest: dict[str, tuple[str, ...] | str] = field(default_factory=dict)
    kept_by_other_rule: set[str] = field(default_factory=set)
    read: int = 0
    without_image: int = 0
    overwritten: int = 0


def _collect(listings: Iterable[Listing], settings: CurateConfig) -> _CollectedListings:
    """Read all listings; a later one of the same image replaces an earlier one."""
    pick, other = LANGUAGE_RULES[settings.language], LANGUAGE_RULES[_OTHER[settings.language]]
    required, extras = frozenset(settings.required), attrgetter(*EXTRAS)
    collected = _CollectedListings()
    latest, kept_by_other_rule = collected.latest, collected.kept_by_other_rule
    for listing in listings:
        collected.read += 1
        image = listing.main_image_id
        if not image:
            collected.without_image += 1
            continue
        if image in latest:
            collected.overwritten += 1
            kept_by_other_rule.discard(image)
        fields = (listing.item_name, listing.product_type, listing.color)
        values = (pick(fields[0]), pick(fields[1]), pick(fields[2]))
        reason = _rejection(values, required)
        usable_by_other_rule = not _rejection(
            (other(fields[0]), other(fields[1]), other(fields[2])), required
        )
        if not reason or usable_by_other_rule:
            keywords = joined_keywords(listing.keywords())
            if not keywords and "keywords" in required:
                reason, usable_by_other_rule = reason or "no_keywords", False
        if usable_by_other_rule:
            kept_by_other_rule.add(image)
        latest[image] = reason or (
            *[v.lower() if v.isascii() else "" for v in values],  # not ASCII: not required
            keywords,
            listing.item_id or "",
            *[any_en(field).lower() if field else "" for field in extras(listing)],
        )
    return collected


@contextmanager
def paused_gc() -> Iterator[None]:
    """Pause Python's cycle collector, which would scan millions of values that form no cycle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _is_in(values: pd.Series, allowed: list[str]) -> NDArray[np.bool_]:
    """[n] which strings are known; ten times faster than pandas' `isin`."""
    array = pc.is_in(pa.array(values, pa.string()), value_set=pa.array(allowed, pa.string()))
    mask: NDArray[np.bool_] = array.to_numpy(zero_copy_only=False)
    return mask


_BAD_IMAGES: tuple[tuple[str, Callable[[pd.DataFrame], pd.Series]], ...] = (
    ("no_image_id_or_path", lambda images: (images["image_id"] == "") | (images["path"] == "")),
    ("duplicate_image_id", lambda images: images["image_id"].duplicated()),
    ("duplicate_path", lambda images: images["path"].duplicated()),
)


def _with_metadata(
    images: pd.DataFrame, collected: _CollectedListings, dropped: Counter[str]
) -> pd.DataFrame:
    """The rows of images.csv that are sound and described by a listing; the others are counted."""
    for reason, test in _BAD_IMAGES:
        bad = test(images)
        dropped[reason] = int(bad.sum())
        images = images[~bad]
    known = _is_in(images["image_id"], list(collected.latest))
    dropped["no_metadata"] = int((~known).sum())
    return images[known]


def clean_table(
    archive: Archive, settings: CurateConfig
) -> tuple[pd.DataFrame, dict[str, Any], BrokenLines]:
    """Join listings with images and keep the rows that the rules allow.

    Args:
        archive: the raw data.
        settings: the rules.

    Returns:
        the rows sorted by image_path, the funnel so far, and the lines that didn't parse.
    """
    broken = BrokenLines()
    collected = _collect(archive.listings(broken), settings)
    images = archive.image_table()
    total, dropped = len(images), Counter[str]()
    images = _with_metadata(images, collected, dropped)
    excluded = _is_in(images["image_id"], list(settings.excluded_images))
    dropped["excluded"] = int(excluded.sum())
    kept = images[~excluded]
    rows, by_other_rule = [], 0
    for image, path in zip(kept["image_id"].tolist(), kept["path"].tolist(), strict=True):
        values = collected.latest[image]
        by_other_rule += image in collected.kept_by_other_rule
        if isinstance(values, str):
            dropped[values] += 1
        else:
            rows.append((path, *values[:4], image, *values[4:]))
    rows.sort()  # by path, which is unique
    table = pd.DataFrame(rows, columns=list(_COLUMNS), dtype=object)
    clean = {settings.language: len(table), _OTHER[settings.language]: by_other_rule}
    funnel = {
        "images": total,
        "with_metadata": len(images),
        "clean": len(table),
        "dropped": dict(dropped),
        "listings": {
            "read": collected.read,
            "broken": broken.count,
            "without_image": collected.without_image,
            "unknown_image": len(collected.latest) - len(images),
            "overwritten": collected.overwritten,
        },
        "language": {name: clean[name] for name in LANGUAGE_RULES}
        | {"gained_by_any_en": clean["any_en"] - clean["first_en"]},
    }
    return table, funnel, broken
