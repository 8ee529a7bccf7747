"""The study's rules: which listing describes an image, and which rows are good enough.

They are the published study's to the letter, so that results can be compared with its figures. A
later listing of the same image replaces an earlier one; of name, type and colour only the first
value counts; a row needs all four fields, the first three in ASCII. Dropped rows are counted by
reason.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter

import pyarrow as pa

from abo_vqa.core.config import CurateConfig
from abo_vqa.core.text_columns import TEXT
from abo_vqa.data.archive import Archive
from abo_vqa.data.listings import BrokenLines, Field, FieldValue, Listing

FIELDS = ("name", "product_type", "color", "keywords")
"""The fields of a listing that the study uses."""

EXTRAS = ("brand", "material", "pattern", "item_shape", "style", "finish_type")
"""Other fields that describe what an image shows."""

_ASCII = FIELDS[:3]

LISTING_COLUMNS = (*FIELDS, "item_id", *EXTRAS)
"""The columns that a listing gives."""

REJECTIONS = (
    "",
    *(f"{why}_{name}" for name in _ASCII for why in ("no", "non_ascii")),
    "no_keywords",
)
"""Why a listing gives no row; the first, "", stands for one that does."""

_REASON_CODES = {reason: code for code, reason in enumerate(REJECTIONS)}

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

OTHER_RULE = {"first_en": "any_en", "any_en": "first_en"}
"""A language rule → the one whose yield is counted beside."""


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


@dataclass(frozen=True)
class SelectedListings:
    """What the listings of a shard say about their images; of several about one, the last.

    Arrow's arrays: they are compact, and cheap to send from one process to another.

    Attributes:
        images: [n] image ids, each once.
        reasons: [n] position in `REJECTIONS`.
        by_other_rule: [n] whether the other language rule would give a row.
        rows: `LISTING_COLUMNS` of the images without a reason, in their order.
        read: how many listings there are.
        without_image: how many of them name no image.
        broken: lines that aren't JSON.
    """

    images: pa.Array
    reasons: pa.Array
    by_other_rule: pa.Array
    rows: pa.Table
    read: int
    without_image: int
    broken: BrokenLines


def select_listings(archive: Archive, settings: CurateConfig, shard: str) -> SelectedListings:
    """Read one shard, and apply the rules to each listing.

    Args:
        archive: the raw data.
        settings: the rules.
        shard: one of `Archive.shards`.
    """
    broken = BrokenLines()
    with _paused_gc():
        latest, read, without_image = _latest(archive.read_shard(shard, broken), settings)
        images = pa.array(latest, TEXT)
        rows: list[tuple[str, ...]] = []
        reasons, by_other_rule = bytearray(), []
        for values, usable_by_other_rule in latest.values():
            by_other_rule.append(usable_by_other_rule)
            if isinstance(values, str):
                reasons.append(_REASON_CODES[values])
            else:
                reasons.append(0)
                rows.append(values)
        latest.clear()
        columns = zip(*rows, strict=True) if rows else ((),) * len(LISTING_COLUMNS)
        arrays = [pa.array(column, TEXT) for column in columns]
    return SelectedListings(
        images,
        pa.array(reasons, pa.uint8()),
        pa.array(by_other_rule, pa.bool_()),
        pa.table(arrays, list(LISTING_COLUMNS)),
        read,
        without_image,
        broken,
    )


def _latest(
    listings: Iterable[Listing], settings: CurateConfig
) -> tuple[dict[str, tuple[tuple[str, ...] | str, bool]], int, int]:
    """Read listings; a later one of the same image replaces an earlier one.

    Returns:
        An image id → its row (or the reason why there is none), and whether the other language rule
        would give one; how many listings there are; how many of them name no image.
    """
    pick, other = LANGUAGE_RULES[settings.language], LANGUAGE_RULES[OTHER_RULE[settings.language]]
    required, extras = frozenset(settings.required), attrgetter(*EXTRAS)
    latest: dict[str, tuple[tuple[str, ...] | str, bool]] = {}
    read = without_image = 0
    for listing in listings:
        read += 1
        image = listing.main_image_id
        if not image:
            without_image += 1
            continue
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
        row = reason or (
            *[v.lower() if v.isascii() else "" for v in values],  # not ASCII: not required
            keywords,
            listing.item_id or "",
            *[any_en(field).lower() if field else "" for field in extras(listing)],
        )
        latest[image] = (row, usable_by_other_rule)
    return latest, read, without_image


@contextmanager
def _paused_gc() -> Iterator[None]:
    """Pause Python's cycle collector, which would scan millions of values that form no cycle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
