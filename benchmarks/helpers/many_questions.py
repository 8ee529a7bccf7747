"""Questions and answers for large tables, made up from a seed a column at a time.

`study_questions` draws a row at a time, about 20,000 rows a second; this is for millions. The
kinds and forms are the same; words and answers grow with the square root of the rows, as those of
a real collection do (Heaps' law), so that the distinct questions, answers and pairs grow, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from helpers.study_questions import (
    ATTRIBUTES,
    COLOURS,
    COUNTS,
    FORMS,
    ROWS,
    SHARES,
    SYLLABLES,
    zipf,
)

ROWS_PER_PICTURE = 3


def words(n: int) -> list[str]:
    """`n` distinct made-up words of three to six syllables, in a random order."""
    base = len(SYLLABLES)
    numbers = np.random.default_rng(1).permutation(n) + base**3
    texts = []
    for number in numbers.tolist():
        text = ""
        while number:
            number, syllable = divmod(number, base)
            text += SYLLABLES[syllable]
        texts.append(text)
    return texts


def drawn(rng: np.random.Generator, listed: Sequence[str], n: int, exponent: float) -> np.ndarray:
    """`n` texts from a list by Zipf's law, as objects that equal rows share."""
    positions = rng.choice(len(listed), n, p=zipf(len(listed), exponent))
    return np.array(listed, dtype=object)[positions]


def table(rows: int, seed: int = 0, growth: float | None = None) -> pd.DataFrame:
    """image_path, question, answer, product_type: three rows a picture, these together.

    Args:
        rows: how many.
        seed: of all draws.
        growth: times the study's vocabulary; by default the root of the rows' multiple.
    """
    rng = np.random.default_rng(seed)
    growth = max(1.0, (rows / ROWS) ** 0.5) if growth is None else growth
    made = words(int(6000 * growth))
    ends = (np.array([0, 1500, 2100, 2700, 2990, 6000]) * growth).astype(int)
    noun, part, adjective, colour, other = (made[a:b] for a, b in pairwise(ends))
    listed = {"noun": noun, "part": part, "adjective": adjective, "attribute": list(ATTRIBUTES)}
    answers = {"color": [*COLOURS, *colour], "yes/no": ["yes", "no"], "other": other,
               "counting": [*COUNTS, *(str(n) for n in range(13, 40))]}  # fmt: skip
    exponents = {"color": 1.15, "yes/no": 1.6, "counting": 1.9, "other": 1.1}
    question, answer = np.empty(rows, dtype=object), np.empty(rows, dtype=object)
    kinds = rng.choice(len(SHARES), rows, p=list(SHARES.values()))
    for k, kind in enumerate(SHARES):
        inside = np.flatnonzero(kinds == k)
        forms = rng.choice(len(FORMS[kind]), len(inside), p=zipf(len(FORMS[kind]), 0.7))
        columns = {name: drawn(rng, texts, len(inside), 1.18) for name, texts in listed.items()}
        for f, form in enumerate(FORMS[kind]):
            at = np.flatnonzero(forms == f)
            parts = zip(*(column[at] for column in columns.values()), strict=True)
            question[inside[at]] = [form.format(**dict(zip(columns, p, strict=True)))
                                    for p in parts]  # fmt: skip
        answer[inside] = drawn(rng, answers[kind], len(inside), exponents[kind])
        # Often what the words suggest: the same for the same question.
        suggested = rng.random(len(inside)) < 0.3
        codes, texts = pd.factorize(question[inside])
        usual = drawn(rng, answers[kind], len(texts), exponents[kind])
        answer[inside[suggested]] = usual[codes[suggested]]
    picture = np.arange(rows) // ROWS_PER_PICTURE
    products = drawn(rng, [f"type{i}" for i in range(200)], picture[-1] + 1, 1.0)
    paths = np.array([f"{i % 256:02x}/{i:08x}.jpg" for i in range(picture[-1] + 1)], dtype=object)
    return pd.DataFrame(
        {
            "image_path": paths[picture],
            "question": question,
            "answer": answer,
            "product_type": products[picture],
        }
    )
