"""Whatever a small table is like: two clean sides or one message, in any order of its rows."""

import random

import pandas as pd
import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.data.audit import audit_split, find_leaks
from abo_vqa.data.audit_text import describe_audit, share_warnings
from abo_vqa.data.similarity_rule import SimilarityRule
from abo_vqa.data.splitting import split_rows

COLUMNS = [
    "image_path", "question", "answer", "item_id", "product_type", "image_sha1", "phash",
]  # fmt: skip
SIZES = (5e-324, 1e-300, 1e-6, 0.01, 0.2, 0.5, 0.77, 0.99, 1 - 1e-9)


def messy(rng):
    """Pictures spelled in three ways, hashes and ids that are missing in some rows or in all."""
    rows = []
    for i in range(rng.randint(1, 14)):
        bits = rng.choice(["", f"{rng.getrandbits(5):016x}", f"{rng.getrandbits(64):016x}"])
        item, sha = rng.choice(["", "A", f"P{i}"]), rng.choice(["", "s", f"s{i}"])
        kind = rng.choice(["", "lamp", "shoes"])
        for q in range(rng.randint(1, 4)):
            name = rng.choice(["ab/", "images/small/ab/", ""]) + f"{i:08x}.jpg"
            known = (rng.choice([sha, ""]), rng.choice([bits, bits, ""]))
            rows.append((name, f"question {q}", "a", item, kind, *known))
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


def side_of_test(table, kind, size, distance, seed):
    """The rows of test, sorted, or the message; raises whatever else goes wrong."""
    try:
        sides = split_rows(
            table, kind, size, seed, rule=SimilarityRule(distance), stratify=seed % 3 > 0
        )
    except UserError as error:
        return str(error)
    assert sorted([*sides[0], *sides[1]]) == list(range(len(table)))
    train, test = (table.iloc[rows] for rows in sides)
    found = audit_split(train, test, kind, SimilarityRule(distance))
    assert find_leaks(found, kind) == {}
    assert describe_audit(found, kind)
    share_warnings(found, kind, size)
    return sorted(test.index)


@pytest.mark.parametrize("kind", ["image", "product", "near-duplicate"])
@pytest.mark.parametrize("size", SIZES)
def test_messy_tables(kind, size):
    for seed in range(6):
        rng = random.Random(f"{kind}{size}{seed}")
        table = messy(rng)
        distance = rng.choice([0, 1, 4, 32])
        first = side_of_test(table, kind, size, distance, seed)
        shuffled = table.sample(frac=1, random_state=seed)
        assert side_of_test(shuffled, kind, size, distance, seed) == first
        if kind == "near-duplicate":  # hashes alone are enough for look-alikes
            side_of_test(table[[*COLUMNS[:3], "phash"]], kind, size, distance, seed)
