"""A project whose set is split, so that `abo-vqa export` runs in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from tests.support import ROOT
from tests.support.annotation import make

IMAGES = 8
QUESTIONS = ("What color is it?", 'Is it "new",\tor\nused?', "Is it striped?")
ANSWERS = (
    ("red", "blue", "None", "green"),
    ("wood", "metal", "glass", '"old" pine'),
    ("yes", "no"),
)


def make_split_project(folder: Path, images: int = IMAGES) -> Path:
    """Fill a folder with images and three questions about each, half of them for training.

    Args:
        folder: an empty one.
        images: how many.
    """
    rows = [
        {"image_path": row["image_path"], "question": question, "row_id": 3 * at + q,
         "answer": ANSWERS[q][at % len(ANSWERS[q])]}
        for at, row in enumerate(make(folder, images)) for q, question in enumerate(QUESTIONS)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    half = 3 * (images // 2)
    table[table["row_id"] < half].to_csv(folder / "data/train.csv", index=False)
    table[table["row_id"] >= half].to_csv(folder / "data/test.csv", index=False)
    for name in ("funnel", "generate", "audit"):
        shutil.copy(ROOT / "tests" / "support" / "tables" / f"{name}.json", folder / "data")
    return folder
