"""Listings as typed structs: parsed fast where the JSON has the usual types, repaired elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec


class FieldValue(msgspec.Struct, gc=False):
    """One value of a listing's field.

    Attributes:
        value: the text.
        language_tag: the language it is in, e.g. "en_US"; None where it has none.
    """

    value: str | None = None
    language_tag: str | None = None


Field = list[FieldValue] | str | None
"""A field of a listing: a list of values, in ABO's rare plain fields a string."""


class Listing(msgspec.Struct, gc=False):
    """The fields of a listing that are used; all others are skipped while parsing.

    Keywords are most of a listing's values, so they stay unparsed until `keywords()` is called;
    until then a listing keeps the text that it was parsed from.
    """

    main_image_id: str | None = None
    item_id: str | None = None
    item_name: Field = None
    product_type: Field = None
    color: Field = None
    item_keywords: msgspec.Raw = msgspec.Raw()
    brand: Field = None
    material: Field = None
    pattern: Field = None
    item_shape: Field = None
    style: Field = None
    finish_type: Field = None

    def keywords(self) -> Field:
        """Parse the field `item_keywords`."""
        if not self.item_keywords:
            return None
        try:
            entries: Field = _KEYWORDS_DECODER.decode(self.item_keywords)
        except ValueError:
            entries = _repair_field(json.loads(bytes(self.item_keywords)))
        return entries


_KEYWORDS_DECODER = msgspec.json.Decoder(Field)


_FIRST = 3  # broken lines that are quoted


@dataclass
class BrokenLines:
    """Lines that aren't JSON objects.

    Attributes:
        count: how many there are.
        first: the first three, with their shard and line number.
    """

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, shard: str, number: int, line: bytes) -> None:
        """Count a line.

        Args:
            shard: the file.
            number: of the line in the shard, from 1.
            line: its bytes.
        """
        self.count += 1
        if len(self.first) < _FIRST:
            start = line[:60].decode(errors="replace")
            self.first.append(f"{shard.rsplit('/', 1)[-1]} line {number}: {start}")

    def extend(self, other: BrokenLines) -> None:
        """Count the lines of another shard.

        Args:
            other: of a shard that comes later.
        """
        self.count += other.count
        self.first = (self.first + other.first)[:_FIRST]


def parse_lines(text: bytes, shard: str, before: int, broken: BrokenLines) -> Iterator[Listing]:
    """Parse lines one at a time, repairing fields of unusual types.

    Args:
        text: lines of JSON.
        shard: the file they are from.
        before: how many lines of the file precede them.
        broken: counts the lines that aren't JSON objects.
    """
    decoder = msgspec.json.Decoder(Listing)
    for number, line in enumerate(text.split(b"\n"), before + 1):
        if not line.strip():
            continue
        try:
            yield decoder.decode(line)
        except (ValueError, RecursionError):
            try:
                parsed = json.loads(line)
            except (ValueError, RecursionError):
                parsed = None
            if isinstance(parsed, dict):
                yield _repair(parsed)
            else:
                broken.add(shard, number, line)


def _repair(parsed: dict[str, Any]) -> Listing:
    """A listing whose fields have unusual types, as far as they can be understood."""
    values: dict[str, Any] = {}
    for name in Listing.__struct_fields__:
        value = parsed.get(name)
        if name in ("main_image_id", "item_id"):
            values[name] = _to_text(value)
        elif name == "item_keywords":
            values[name] = msgspec.Raw(msgspec.json.encode(_repair_field(value)))
        else:
            values[name] = _repair_field(value)
    return Listing(**values)


def _repair_field(value: Any) -> Field:
    """A field of any JSON type as a list of values, as text, or as None."""
    if isinstance(value, list):
        return [_to_value(item) for item in value]
    return [_to_value(value)] if isinstance(value, dict) else _to_text(value)


def _to_value(item: Any) -> FieldValue:
    if isinstance(item, dict):
        return FieldValue(_to_text(item.get("value")), _to_text(item.get("language_tag")))
    return FieldValue(_to_text(item))


def _to_text(value: Any) -> str | None:
    """Text and numbers as text, anything else as None; lone surrogates become "?"."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
