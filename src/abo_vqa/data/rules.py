"""The study's rules: which listing describes a picture, and which rows are good enough.

The rules are the published study's, to the letter, because its figures are compared with: a later
listing of the same picture overwrites an earlier one; of name, type and colour only the first entry
counts; a row needs all four fields, the first three in ASCII. What is dropped is counted by reason.
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

from abo_vqa.config import CurateConfig
from abo_vqa.data.archive import Archive
from abo_vqa.data.listings import BrokenLines, Field, FieldValue, Listing

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIELDS = ("name", "product_type", "color", "keywords")
_ASCII = FIELDS[:3]
EXTRAS = ("brand", "material", "pattern", "item_shape", "style", "finish_type")
_COLUMNS = ("image_path", *FIELDS, "image_id", "item_id", *EXTRAS)

_Pick = Callable[[Field], str]


def first_en(field: Field) -> str:
    """The study's rule: a plain value; else the first entry's, unless it is tagged as not English.

    Later entries aren't looked at, so an English name after a Japanese one is lost.
    """
    if field is None or isinstance(field, str):
        return field or ""
    if not field:
        return ""
    entry = field[0]
    tag = entry.language_tag
    return (entry.value or "") if tag is None or tag.startswith("en_") else ""


def any_en(field: Field) -> str:
    """A plain value; else the first entry's that is English, else the first without a language."""
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


LANGUAGE_RULES: dict[str, _Pick] = {"first_en": first_en, "any_en": any_en}
_OTHER = {"first_en": "any_en", "any_en": "first_en"}


def joined_keywords(field: Field) -> str:
    """English and untagged values: stripped, lower-cased, each once, in order, joined by ", "."""
    if field is None:
        return ""
    entries = [FieldValue(field)] if isinstance(field, str) else field
    values = [
        entry.value
        for entry in entries
        if entry.value and ((tag := entry.language_tag) is None or tag.startswith("en"))
    ]
    # Lower-casing once instead of thirty times a listing; no real value holds a NUL.
    words = "\0".join(values).lower().split("\0")
    return ", ".join(filter(None, dict.fromkeys(map(str.strip, words))))


def _flaw(values: tuple[str, str, str], required: frozenset[str]) -> str:
    """Why name, product_type and color can't be used: the first missing, else the first not ASCII;
    "" if they can."""
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
class _Collected:
    """What the listings say about each picture.

    Attributes:
        latest: by image id the last listing's row (FIELDS, item id, EXTRAS), or why it has none.
        otherwise: image ids that would be usable under the other language rule.
        read, without_image, overwritten: counts of listings.
    """

    latest: dict[str, tuple[str, ...] | str] = field(default_factory=dict)
    otherwise: set[str] = field(default_factory=set)
    read: int = 0
    without_image: int = 0
    overwritten: int = 0


def _collect(listings: Iterable[Listing], settings: CurateConfig) -> _Collected:
    """Go through all listings once; a later one of the same picture overwrites an earlier one."""
    pick, other = LANGUAGE_RULES[settings.language], LANGUAGE_RULES[_OTHER[settings.language]]
    required, extras = frozenset(settings.required), attrgetter(*EXTRAS)
    found = _Collected()
    latest, otherwise = found.latest, found.otherwise
    for listing in listings:
        found.read += 1
        image = listing.main_image_id
        if not image:
            found.without_image += 1
            continue
        if image in latest:
            found.overwritten += 1
            otherwise.discard(image)
        fields = (listing.item_name, listing.product_type, listing.color)
        values = (pick(fields[0]), pick(fields[1]), pick(fields[2]))
        reason = _flaw(values, required)
        usable_otherwise = not _flaw(
            (other(fields[0]), other(fields[1]), other(fields[2])), required
        )
        if not reason or usable_otherwise:
            keywords = joined_keywords(listing.keywords())
            if not keywords and "keywords" in required:
                reason, usable_otherwise = reason or "no_keywords", False
        if usable_otherwise:
            otherwise.add(image)
        latest[image] = reason or (
            *[v.lower() if v.isascii() else "" for v in values],  # not ASCII: not required
            keywords,
            listing.item_id or "",
            *[any_en(field).lower() if field else "" for field in extras(listing)],
        )
    return found


@contextmanager
def paused_gc() -> Iterator[None]:
    """Pause Python's cycle collector, which would look at millions of values that form no cycle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _is_in(values: pd.Series, known: list[str]) -> NDArray[np.bool_]:
    """[n] which of some strings are known: ten times faster than pandas' `isin` on them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(pa.array(values, pa.string()), value_set=pa.array(known, pa.string()))
    mask: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return mask


_BAD_IMAGES: tuple[tuple[str, Callable[[pd.DataFrame], pd.Series]], ...] = (
    ("no_image_id_or_path", lambda images: (images["image_id"] == "") | (images["path"] == "")),
    ("duplicate_image_id", lambda images: images["image_id"].duplicated()),
    ("duplicate_path", lambda images: images["path"].duplicated()),
)


def clean_table(
    archive: Archive, settings: CurateConfig
) -> tuple[pd.DataFrame, dict[str, Any], BrokenLines]:
    """Join listings and pictures; keep the rows that the rules allow.

    Returns:
        rows sorted by path (COLUMNS), the funnel so far, and the lines that didn't parse.
    """
    broken = BrokenLines()
    found = _collect(archive.listings(broken), settings)
    images = archive.images()
    total, dropped = len(images), Counter[str]()
    for reason, test in _BAD_IMAGES:
        bad = test(images)
        dropped[reason] = int(bad.sum())
        images = images[~bad]
    known = _is_in(images["image_id"], list(found.latest))
    dropped["no_metadata"] = int((~known).sum())
    images = images[known]
    excluded = _is_in(images["image_id"], list(settings.excluded_images))
    dropped["excluded"] = int(excluded.sum())
    rows, otherwise = [], 0
    for image, path in zip(
        images.loc[~excluded, "image_id"].tolist(),
        images.loc[~excluded, "path"].tolist(),
        strict=True,
    ):
        values = found.latest[image]
        otherwise += image in found.otherwise
        if isinstance(values, str):
            dropped[values] += 1
        else:
            rows.append((path, *values[:4], image, *values[4:]))
    rows.sort()  # by path, which is unique
    table = pd.DataFrame(rows, columns=list(_COLUMNS), dtype=object)
    clean = {settings.language: len(table), _OTHER[settings.language]: otherwise}
    funnel = {
        "images": total,
        "with_metadata": len(images),
        "clean": len(table),
        "dropped": dict(dropped),
        "listings": {
            "read": found.read,
            "broken": broken.count,
            "without_image": found.without_image,
            "unknown_image": len(found.latest) - len(images),
            "overwritten": found.overwritten,
        },
        "language": {name: clean[name] for name in LANGUAGE_RULES}
        | {"gained_by_any_en": clean["any_en"] - clean["first_en"]},
    }
    return table, funnel, broken
