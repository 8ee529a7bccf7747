"""Shards: parts of the images that several people or machines annotate independently."""

from __future__ import annotations

import hashlib

from abo_vqa.core.errors import UserError

ShardSpec = tuple[int, int]
"""(2, 5) is the second of five parts."""


def parse_shard(text: str) -> ShardSpec:
    """Parse "2/5" into (2, 5).

    Args:
        text: the option's value.

    Raises:
        UserError: it isn't of that form.
    """
    number, _, parts = text.partition("/")
    if number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts):
        return int(number), int(parts)
    raise UserError(f"--shard must be I/N with 1 <= I <= N, e.g. 2/5; found {text!r}.")


def in_shard(image_path: str, shard: ShardSpec | None) -> bool:
    """Return whether an image belongs to a shard.

    Args:
        image_path: the image, whose path alone decides: it never changes its part.
        shard: the part, or None for all images.
    """
    if shard is None:
        return True
    number, parts = shard
    digest = hashlib.sha256(image_path.encode()).digest()
    return int.from_bytes(digest[:8], "big") % parts == number - 1
