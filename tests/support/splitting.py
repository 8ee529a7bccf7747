"""Made-up VQA tables with products, types and hashes, and their split."""

import random

import pandas as pd

from abo_vqa.data.similarity_rule import SimilarityRule
from abo_vqa.data.splitting import split_rows


def hexed(bits):
    return f"{bits:016x}"


def vqa(pictures, questions=3, seed=0):
    """A VQA table in random order; `pictures`: (path, item_id, product_type, sha1, phash)."""
    rows = [
        (
            path,
            f"question {q}?",
            random.Random(f"{path}{q}").choice(("red", "None", "", "2")),
            *rest,
        )
        for path, *rest in pictures
        for q in range(questions)
    ]
    columns = ["image_path", "question", "answer", "item_id", "product_type", "image_sha1", "phash"]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def catalogue(n=200, seed=0):
    """Pictures of products of a few types; some products have several, some look alike."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        item, bits = f"B{rng.randrange(n)}", rng.getrandbits(64)
        made.append((f"{i:03d}.jpg", item, rng.choice("AAAABBC"), f"sha{i}", hexed(bits)))
        if rng.random() < 0.2:
            near = bits ^ (1 << rng.randrange(64))
            made.append((f"{i:03d}n.jpg", f"N{i}", made[-1][2], f"near{i}", hexed(near)))
        if rng.random() < 0.1:
            made.append((f"{i:03d}s.jpg", f"S{i}", made[-1][2], f"sha{i}", hexed(bits)))
    return made


def chosen(table, kind, test_size=0.2, seed=42, distance=4, stratify=True):
    rule = SimilarityRule(distance)
    return split_rows(table, kind, test_size, seed, rule=rule, stratify=stratify)
