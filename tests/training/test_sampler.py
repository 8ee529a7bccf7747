"""Batches: every row once, pictures together, little padding."""

import random

import pytest

from abo_vqa.training.sampler import epoch_batches, split_batch


def batches_of(paths, epoch=1, grouped=True, lengths=None, size=10):
    lengths = lengths or [9] * len(paths)
    return epoch_batches(paths, range(len(paths)), size, 1, epoch, grouped, lengths)


def test_plan_covers_every_row_once_and_keeps_pictures_together():
    paths = [f"{i // 3}.jpg" for i in range(60)]
    batches = batches_of(paths)
    assert sorted(row for batch in batches for row in batch) == list(range(60))
    where = [{paths[row] for row in batch} for batch in batches]
    assert sum(map(len, where)) == 20
    assert batches == batches_of(paths)
    assert batches != batches_of(paths, epoch=2)
    ungrouped = batches_of(paths, grouped=False)
    assert sum(len({paths[row] for row in batch}) for batch in ungrouped) > 20


@pytest.mark.parametrize("grouped", [True, False])
def test_questions_of_like_lengths_share_a_batch(grouped):
    """Little padding, yet batches come in no order of length."""
    paths = [f"{i // 3}.jpg" for i in range(600)]
    generator = random.Random(1)
    lengths = [generator.randrange(7, 17) for _ in range(600)]
    if grouped:
        lengths = [lengths[i // 3] for i in range(600)]
    batches = batches_of(paths, grouped=grouped, lengths=lengths)
    assert sorted(row for batch in batches for row in batch) == list(range(600))
    longest = [max(lengths[row] for row in batch) for batch in batches]
    padded_to = sum(len(batch) * most for batch, most in zip(batches, longest, strict=True))
    assert padded_to < 1.12 * sum(lengths)
    assert longest != sorted(longest)
    shuffled = [row for batch in batches_of(paths, grouped=grouped) for row in batch]
    batches = [shuffled[i : i + 10] for i in range(0, 600, 10)]
    unsorted = sum(len(b) * max(lengths[row] for row in b) for b in batches)
    assert unsorted > 1.2 * sum(lengths)


def test_parts_share_a_batch_by_whole_pictures():
    paths = [f"{i // 3}.jpg" for i in range(12)]
    parts = split_batch(range(12), paths, 3)
    assert sorted(row for part in parts for row in part) == list(range(12))
    assert all(len({paths[r] for r in a} & {paths[r] for r in b}) == 0
               for i, a in enumerate(parts) for b in parts[i + 1 :])  # fmt: skip
    assert len(split_batch(range(12), paths, 99)) == 4
