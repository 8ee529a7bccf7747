"""A listing's fields, parsed fast where they are as usual and mended where they aren't."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec


class FieldValue(msgspec.Struct, gc=False):
    """One value of a listing's field, with the language it is in."""

    value: str | None = None
    language_tag: str | None = None


Field = list[FieldValue] | str | None


class Listing(msgspec.Struct, gc=False):
    """What is used of a listing; all other fields are skipped while parsing.

    Keywords are most of a listing's values, so they stay unparsed until `keywords()` is called;
    until then a listing holds on to the text it came from.
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
        """The field `item_keywords`."""
        if not self.item_keywords:
            return None
        try:
            entries: Field = _KEYWORDS.decode(self.item_keywords)
        except ValueError:
            entries = _mended_field(json.loads(bytes(self.item_keywords)))
        return entries


_KEYWORDS = msgspec.json.Decoder(Field)


@dataclass
class BrokenLines:
    """Lines that aren't JSON objects: how many, and the first three with their place."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, shard: str, number: int, line: bytes) -> None:
        self.count += 1
        if len(self.first) < 3:
            start = line[:60].decode(errors="replace")
            self.first.append(f"{shard.rsplit('/', 1)[-1]} line {number}: {start}")


def parse_lines(text: bytes, shard: str, before: int, broken: BrokenLines) -> Iterator[Listing]:
    """Parse lines one at a time: odd fields are mended, broken lines noted."""
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
                yield _mended(parsed)
            else:
                broken.add(shard, number, line)


def _mended(parsed: dict[str, Any]) -> Listing:
    """A listing whose fields aren't of the usual types, as far as they can be understood."""
    values: dict[str, Any] = {}
    for name in Listing.__struct_fields__:
        value = parsed.get(name)
        if name in ("main_image_id", "item_id"):
            values[name] = _text_of(value)
        elif name == "item_keywords":
            values[name] = msgspec.Raw(msgspec.json.encode(_mended_field(value)))
        else:
            values[name] = _mended_field(value)
    return Listing(**values)


def _mended_field(value: Any) -> Field:
    """A field of any JSON type as entries, as text, or as nothing."""
    if isinstance(value, list):
        return [_entry_of(item) for item in value]
    return [_entry_of(value)] if isinstance(value, dict) else _text_of(value)


def _entry_of(item: Any) -> FieldValue:
    if isinstance(item, dict):
        return FieldValue(_text_of(item.get("value")), _text_of(item.get("language_tag")))
    return FieldValue(_text_of(item))


def _text_of(value: Any) -> str | None:
    """Numbers as text, everything else that isn't text as nothing; half characters as "?"."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
