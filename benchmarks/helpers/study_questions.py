"""Questions and answers with the study's statistics, made up from a seed: no real question in them.

45,482 rows about 14,777 pictures; 39% other, 35% colour, 15.5% yes/no and 11% counting questions;
about 15,700 distinct questions and 1,800 distinct answers, the ten most frequent of which cover
45% of the rows, the hundred most frequent 82%. A question's words tell something of its answer, as
in the study: the n-gram model reaches about .43.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

ROWS, PICTURES = 45_482, 14_777
SYLLABLES = ("ka", "ro", "ti", "lum", "ven", "sa", "dor", "mel", "pi", "qua", "sto", "bri", "nel")
ATTRIBUTES = ("material", "shape", "pattern", "style", "brand", "finish", "texture", "design",
              "logo", "closure", "fabric", "print", "type", "theme", "heel", "frame")  # fmt: skip
FORMS = {
    "color": ("What color is the {noun}?", "What color is the {part} of the {noun}?",
              "What is the main color of the {noun}?", "What is the color of the {part}?"),
    "yes/no": ("Is the {noun} {adjective}?", "Does the {noun} have a {part}?",
               "Is there a {part} on the {noun}?", "Is the {part} {adjective}?"),
    "counting": ("How many {part}s does the {noun} have?", "How many {part}s are visible?",
                 "How many {noun}s are shown?"),
    "other": ("What {attribute} is the {noun}?", "What is the {attribute} of the {noun}?",
              "What is the {attribute} of the {part}?", "What {attribute} does the {part} have?"),
}  # fmt: skip
SHARES = {"other": 0.385, "color": 0.35, "yes/no": 0.155, "counting": 0.11}
COUNTS = ("one", "two", "three", "four", "five", "six", "eight", "seven", "ten", "nine", "twelve")
COLOURS = ("black", "white", "blue", "brown", "gray", "red", "green", "silver", "beige", "gold",
           "yellow", "pink", "purple", "orange", "navy", "clear", "tan", "cream")  # fmt: skip


def words(rng: np.random.Generator, n: int) -> list[str]:
    """`n` distinct made-up words."""
    distinct: dict[str, None] = {}
    while len(distinct) < n:
        distinct["".join(rng.choice(SYLLABLES, int(rng.integers(2, 5))))] = None
    return list(distinct)


def zipf(n: int, exponent: float) -> np.ndarray:
    """The shares of `n` things by Zipf's law."""
    weights = 1 / np.arange(1, n + 1) ** exponent
    return np.asarray(weights / weights.sum())


class Draw:
    """Draws questions and answers; every list's first words are its most frequent ones."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        made = words(self.rng, 6000)
        self.words = {"noun": made[:1500], "part": made[1500:2100], "adjective": made[2100:2700],
                      "attribute": list(ATTRIBUTES)}  # fmt: skip
        self.shares = {name: zipf(len(listed), 1.18) for name, listed in self.words.items()}
        self.answers = {
            "color": [*COLOURS, *made[2700:2990]],
            "yes/no": ["yes", "no"],
            "counting": [*COUNTS, *(str(n) for n in range(13, 40))],
        }
        self.answers |= {a: made[3000 + 180 * i : 3180 + 180 * i] for i, a in enumerate(ATTRIBUTES)}
        self.exponents = {"color": 1.15, "yes/no": 1.6, "counting": 1.9}

    def question(self, kind: str) -> tuple[str, str]:
        """A question and the list its answer is on."""
        drawn = {
            name: listed[self.rng.choice(len(listed), p=self.shares[name])]
            for name, listed in self.words.items()
        }
        form = FORMS[kind][self.rng.choice(len(FORMS[kind]), p=zipf(len(FORMS[kind]), 0.7))]
        text = form.format(**drawn)
        return text, drawn["attribute"] if kind == "other" else kind

    def answer(self, question: str, on: str) -> str:
        """From its list: often what the words suggest, the same for the same last word."""
        listed = self.answers[on]
        shares = zipf(len(listed), self.exponents.get(on, 1.33))
        if self.rng.random() < 0.3 and on != "yes/no":
            last = question.rstrip("?").split()[-1]
            return listed[np.random.default_rng(list(last.encode())).choice(len(listed), p=shares)]
        return listed[self.rng.choice(len(listed), p=shares)]


def table(rows: int = ROWS, pictures: int = PICTURES, seed: int = 0) -> pd.DataFrame:
    """image_path, question, answer: about three rows a picture, a picture's rows together."""
    draw = Draw(seed)
    kinds = draw.rng.choice(list(SHARES), rows, p=list(SHARES.values()))
    questions = [draw.question(kind) for kind in kinds]
    picture = np.sort(np.r_[np.arange(pictures), draw.rng.integers(pictures, size=rows - pictures)])
    return pd.DataFrame(
        {
            "image_path": [f"{i % 256:02x}/{i:08x}.jpg" for i in picture],
            "question": [question for question, _ in questions],
            "answer": [draw.answer(*question) for question in questions],
        }
    )


def describe(questions: Sequence[str], answers: Sequence[str]) -> str:
    """The statistics that this module promises."""
    counts = Counter(answers).most_common()
    cover = [sum(n for _, n in counts[:top]) / len(answers) for top in (10, 100)]
    return (
        f"{len(questions):,} rows, {len(set(questions)):,} distinct questions, {len(counts):,} "
        f"distinct answers; the first 10 cover {cover[0]:.0%}, the first 100 {cover[1]:.0%}"
    )
