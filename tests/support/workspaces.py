"""A project folder in small: settings, tiny models, an archive, VQA tables."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from tests.support import ROOT
from tests.support.models import ANSWERS, MAKERS

QUESTIONS = (
    "what color is it?",
    "is it red?",
    "how many items are there in this picture?",
    "what is the material of the object shown?",
    "what?",
    "does the product have a visible pattern on it, is it striped?",
    "which shape has this lamp?",
    "what type of product is this?",
)


def workspace(root: Path, *names: str, images: int = 12, broken: int = 1) -> Path:
    """A project folder with tiny models, a small archive and VQA tables; chdir into it to run.

    Every picture has three questions of different lengths; the last `broken` ones don't decode.
    """
    shutil.copytree(ROOT / "conf", root / "conf")
    copy_params(root)
    (root / "dvc.yaml").write_text("stages: {}\n")
    profile = root / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    for name in names:
        MAKERS[name](root / "models" / name)
        settings["models"].setdefault(name, {})["path"] = f"models/{name}"
        settings.setdefault("batch_sizes", {})[name] = 8
    profile.write_text(yaml.safe_dump(settings))
    (root / "data/vectors").mkdir(parents=True)
    shutil.copy(ROOT / "data/vectors/.gitignore", root / "data/vectors")
    raw = root / "data/raw/sample"
    for part in ("listings/metadata", "images/metadata", "images/small/00"):
        (raw / part).mkdir(parents=True)
    rows = []
    for i, picture in enumerate(pictures(images)):
        path = f"00/{i:08x}.jpg"
        picture.save(raw / "images/small" / path)
        if i >= images - broken:
            (raw / "images/small" / path).write_bytes(b"not a picture")
        asked = [QUESTIONS[(i + 3 * k) % len(QUESTIONS)] for k in range(3)]
        rows += [(path, q, ANSWERS[(i + k) % len(ANSWERS)]) for k, q in enumerate(asked)]
    table = pd.DataFrame(rows, columns=["image_path", "question", "answer"])
    table.to_csv(root / "data/vqa.csv", index=False)
    table.insert(0, "row_id", range(len(table)))
    test = table["image_path"].isin(sorted(set(table["image_path"]))[::4])
    table[~test].to_csv(root / "data/train.csv", index=False)
    table[test].to_csv(root / "data/test.csv", index=False)
    return root


def copy_params(root: Path) -> None:
    """Copy params.yaml, but for one thread: a second one costs tiny models more than it saves."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text, changed = re.subn(r"^threads: \d+", "threads: 1", text, flags=re.MULTILINE)
    assert changed == 1
    (root / "params.yaml").write_text(text, encoding="utf-8")


def pictures(count: int, seed: int = 0, side: int = 48) -> list[Image.Image]:
    """`count` RGB pictures of blocks, different in colour and proportion."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        blocks = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
        size = (side, side) if i % 3 else (side, side * 3 // 4)
        made.append(Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST))
    return made
