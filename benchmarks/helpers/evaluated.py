"""A workspace as the stages before `evaluate` leave it, of any size, made up from a seed."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from helpers.abo_shaped import add

from abo_vqa.core.tables import write_table

ROOT = Path(__file__).parents[2]
BLIND = {"baselines/blind/majority": 0.13, "baselines/blind/type": 0.28,
         "baselines/blind/question": 0.40, "baselines/blind/ngram": 0.44}  # fmt: skip
SKILL = {
    "baselines/blip": 0.51, "baselines/blip2": 0.42, "baselines/clip-fixed": 0.10,
    "baselines/clip-train": 0.08, "baselines/clip-all": 0.05, "baselines/llava": 0.54,
    "baselines/vilt": 0.37, **BLIND, "finetuned": 0.67,
}  # fmt: skip
TYPES = 200


def predictions(rows: pd.DataFrame, skill: float, rng: np.random.Generator) -> pd.DataFrame:
    """Right with probability `skill`, else any row's answer; a few empty, a few failed."""
    n = len(rows)
    answers = np.where(rng.random(n) < skill, rows["answer"], rng.permutation(rows["answer"]))
    answers = np.where(rng.random(n) < 0.02, "", answers)
    failed = rng.random(n) < 0.001
    return pd.DataFrame(
        {
            "row_id": rows["row_id"],
            "prediction": np.where(failed, "", answers),
            "confidence": np.where(failed, "", np.char.mod("%.6f", rng.random(n))),
            "error": np.where(failed, "out of memory", ""),
        }
    )


def jpeg(rng: np.random.Generator) -> bytes:
    """A 256 px picture of about ABO's 8 KB: coarse noise on white."""
    from PIL import Image

    coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def write_archives(
    folder: Path, listed: Iterable[str], shown: Iterable[str], distinct: int, seed: int
) -> None:
    """ABO's two archives: all paths in the list of images, the test's with a picture."""
    rng = np.random.default_rng(seed)
    jpegs = [jpeg(rng) for _ in range(distinct)]
    lines = "image_id,height,width,path\n" + "".join(f"{p[3:-4]},256,256,{p}\n" for p in listed)
    with tarfile.open(folder / "abo-images-small.tar", "w") as tar:
        add(tar, "images/metadata/images.csv.gz", gzip.compress(lines.encode(), mtime=0))
        for i, path in enumerate(shown):
            add(tar, f"images/small/{path}", jpegs[i % distinct])
    with tarfile.open(folder / "abo-listings.tar", "w"):
        pass


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def workspace(
    folder: Path,
    questions: pd.DataFrame,
    skill: Mapping[str, float] = SKILL,
    seed: int = 0,
    jpegs: int | None = None,
) -> None:
    """What the stages before `evaluate` leave behind.

    Args:
        folder: where; it is there.
        questions: image_path, question, answer.
        skill: folder of predictions → the share that is right.
        seed: of all draws.
        jpegs: how many pictures differ; None for all of the test's, 0 for no archive.
    """
    rng = np.random.default_rng(seed)
    _write_settings(folder / "params.yaml", skill)
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "models").mkdir()
    (folder / "models" / "sample").symlink_to(ROOT / "models" / "sample")
    data, reports = folder / "data", folder / "reports"
    reports.mkdir()
    (data / "raw" / "sample").mkdir(parents=True)
    products = _products(sorted(set(questions["image_path"])), rng)
    added = products.set_index("image_path").loc[questions["image_path"]].reset_index(drop=True)
    vqa = questions[["image_path", "question", "answer"]].join(
        added[["item_id", "image_sha1", "phash", "product_type"]]
    )
    vqa["row_id"] = range(len(vqa))
    paths = products["image_path"].tolist()
    held_out = vqa["image_path"].isin(set(rng.permutation(paths)[: len(paths) // 5]))
    test = vqa[held_out]
    for name, table in (("vqa", vqa), ("train", vqa[~held_out]), ("test", test),
                        ("balanced", products)):  # fmt: skip
        write_table(table, data / f"{name}.csv")
    _write_counts(data, products, vqa, test)
    for name, share in skill.items():
        (reports / name).mkdir(parents=True)
        answers = predictions(test if name == "finetuned" else vqa, share, rng)
        write_table(answers, reports / name / "predictions.csv")
    steps = [{"step": s, "loss": 3 / (1 + s / 500), "lr": 5e-5} for s in range(0, 13_640, 50)]
    epochs = [{"epoch": e, "validation_accuracy": 0.6 + 0.02 * e} for e in (1, 2, 3)]
    training = {"best_epoch": 3, "held_out_rows": 1800, "epochs": epochs, "steps": steps}
    write_json(reports / "training.json", training)
    if jpegs != 0:
        shown = sorted(set(test["image_path"]))
        write_archives(data / "raw" / "sample", paths, shown, jpegs or len(shown), seed)


def _write_settings(path: Path, skill: Mapping[str, float]) -> None:
    """The repository's settings, with these models and without the ranked answers."""
    models = dict.fromkeys(name.split("/")[1] for name in skill if name.startswith("baselines"))
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for name, value in (("models", f"[{', '.join(models)}]"), ("finetuned", "false")):
        section = {"models": "baselines:", "finetuned": "ranking:"}[name]
        before, after = text.split(f"\n{section}\n")
        after = re.sub(rf"(?m)^  {name}: .*$", f"  {name}: {value}", after, count=1)
        text = f"{before}\n{section}\n{after}"
    path.write_text(text, encoding="utf-8")


def _products(paths: list[str], rng: np.random.Generator) -> pd.DataFrame:
    share = 1 / np.arange(1, TYPES + 1)
    kinds = rng.choice(TYPES, len(paths), p=share / share.sum())
    return pd.DataFrame(
        {
            "image_path": paths,
            "name": [f"product {i}" for i in range(len(paths))],
            "product_type": [f"type{i}" for i in kinds],
            "color": "red",
            "keywords": "made, up",
            "item_id": [f"B{i:09d}" for i in range(len(paths))],
            "image_sha1": [rng.bytes(20).hex() for _ in paths],
            "phash": [rng.bytes(8).hex() for _ in paths],
        }
    )


def _write_counts(
    data: Path, products: pd.DataFrame, vqa: pd.DataFrame, test: pd.DataFrame
) -> None:
    sizes = products["product_type"].value_counts().sort_index()
    types = {"product_type": sizes.index, "clean": 2 * sizes, "balanced": sizes}
    pd.DataFrame(types).to_csv(data / "types.csv", index=False)
    rows, images = len(vqa), len(products)
    funnel = {"images": 398_212, "with_metadata": 123_551, "clean": 72_427, "types": TYPES,
              "balanced": images, "dropped": {"no_metadata": 274_661}}  # fmt: skip
    write_json(data / "funnel.json", funnel)
    write_json(data / "generate.json", {"images": images, "pairs": rows, "rejected": {}})
    write_json(data / "audit.json", {"train_rows": rows - len(test), "test_rows": len(test)})
    write_json(data / "verification.json", {})
