"""Form batches: seeded order, an image's rows together, similar lengths to reduce padding."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

_WINDOW = 8  # batches whose rows are sorted by length: more means less padding and less mixing


def epoch_batches(
    image_paths: Sequence[str],
    rows: Sequence[int],
    size: int,
    seed: int,
    epoch: int,
    grouped: bool,
    lengths: Sequence[int],
) -> list[list[int]]:
    """Return an epoch's batches of about `size` rows, in random order.

    Questions of similar lengths meet in a batch. With `grouped`, an image's questions do, too, and
    the batch that they fill may be a row or two larger.

    Args:
        image_paths: each row's image.
        rows: positions of the rows to train on.
        size: rows per batch.
        seed: decides the order, together with `epoch`.
        epoch: number of the epoch.
        grouped: whether an image's questions stay together.
        lengths: tokens of each row's question.
    """
    generator = random.Random(f"{seed}:{epoch}")
    units = _group([(image_paths[row] if grouped else row, row) for row in rows])
    generator.shuffle(units)
    ordered = [
        unit
        for window in _fill(units, _WINDOW * size)
        for unit in sorted(window, key=lambda unit: max(lengths[row] for row in unit))
    ]
    batches = [[row for unit in batch for row in unit] for batch in _fill(ordered, size)]
    generator.shuffle(batches)
    return batches


def split_batch(batch: Sequence[int], image_paths: Sequence[str], count: int) -> list[list[int]]:
    """Split a batch into at most `count` parts of whole images, of about equal size."""
    units = _group([(image_paths[row], row) for row in batch])
    parts: list[list[int]] = [[] for _ in range(min(count, len(units)))]
    for rows in units:
        min(parts, key=len).extend(rows)
    return parts


def _group(keyed: Sequence[tuple[Hashable, int]]) -> list[list[int]]:
    """Rows with the same key together, in the order of each key's first row."""
    units: dict[Hashable, list[int]] = {}
    for key, row in keyed:
        units.setdefault(key, []).append(row)
    return list(units.values())


def _fill(units: Sequence[list[int]], size: int) -> list[list[list[int]]]:
    """Units in the given order, cut wherever `size` rows are reached."""
    filled: list[list[list[int]]] = [[]]
    count = 0
    for unit in units:
        if count >= size:
            filled.append([])
            count = 0
        filled[-1].append(unit)
        count += len(unit)
    return filled
