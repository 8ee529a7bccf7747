"""A whole workspace as the earlier stages leave it, made up from a seed: what the report reads."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from abo_vqa.core.config import load_config
from abo_vqa.evaluation.closed_world import describe_candidates
from abo_vqa.evaluation.intervals import learning_curve_intervals
from abo_vqa.evaluation.results import analyse
from abo_vqa.evaluation.rows import describe_rows
from abo_vqa.evaluation.study_fractions import study_fractions
from abo_vqa.evaluation.summary import mean_metrics
from tests.support import ROOT

COLORS = {"red": "#c62828", "blue": "#1565c0", "green": "#2e7d32", "black": "#212121",
          "white": "#eeeeee", "yellow": "#f9a825"}  # fmt: skip
TYPES = ["lamp", "chair", "mug", "sofa", "rug", "shoe"]
COUNTS = ["one", "two", "three", "four"]
MATERIALS = ["wood", "metal", "ceramic", "plastic"]
SKILL = {"blip": 0.5, "blip2": 0.4, "clip-fixed": 0.14, "clip-train": 0.12, "clip-all": 0.05,
         "llava": 0.52, "vilt": 0.36, "blind-majority": 0.13, "blind-type": 0.28,
         "blind-question": 0.4, "blind-ngram": 0.43, "finetuned": 0.7,
         "finetuned-ranked": 0.75}  # fmt: skip
COLUMNS = ["image_path", "question", "answer", "image_id", "item_id", "product_type",
           "question_type", "question_subtype"]  # fmt: skip
RESAMPLES = 2000  # with fewer, no p survives the correction for 78 comparisons
NO_CONFIDENCE = ("llava", "blind-majority", "blind-type", "blind-question")
METRICS = ("accuracy", "alias_accuracy", "exact_match", "token_match", "f1", "word_overlap_f1",
           "meteor", "wup", "rouge1", "rougeL", "bleu", "bertscore_precision", "bertscore_recall",
           "bertscore_f1", "bertscore_f1_rescaled", "bartscore")  # fmt: skip


def picture(color: str, kind: str, rng: np.random.Generator) -> bytes:
    """A 64 px JPEG: a coloured shape on white."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (64, 48 + 16 * (len(kind) % 2)), "white")
    box = [8 + int(rng.integers(6)), 8, 54, 40]
    draw = ImageDraw.Draw(image)
    shape = draw.ellipse if len(kind) % 2 else draw.rectangle
    shape(box, fill=COLORS[color], outline="#555555")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def archives(folder: Path, pictures: dict[str, bytes]) -> None:
    """ABO's two archives with these pictures (path → JPEG)."""
    folder.mkdir(parents=True)
    lines = ["image_id,height,width,path"]
    lines += [f"{path[3:-4]},64,64,{path}" for path in pictures]
    with tarfile.open(folder / "abo-images-small.tar", "w") as tar:
        add(tar, "images/metadata/images.csv.gz", gzip.compress("\n".join(lines).encode()))
        for path, content in pictures.items():
            add(tar, f"images/small/{path}", content)
    with tarfile.open(folder / "abo-listings.tar", "w") as tar:
        for digit in "0123456789abcdef":
            add(tar, f"listings/metadata/listings_{digit}.json.gz", gzip.compress(b""))


def questions(rng: np.random.Generator, color: str, kind: str) -> list[tuple[str, str, str, str]]:
    """Question, answer, type, subtype."""
    material, number = str(rng.choice(MATERIALS)), str(rng.choice(COUNTS, p=[0.6, 0.2, 0.1, 0.1]))
    asked = str(rng.choice(list(COLORS))) if rng.random() < 0.5 else color
    pool = [
        (f"What color is the {kind}?", color, "color", "color"),
        (f"How many items of the {kind} are shown?", number, "counting", "counting"),
        (f"Is the {kind} {asked}?", "yes" if asked == color else "no", "yes/no", "yes/no"),
        ("What is shown?", kind, "other", "type"),
        (f"What is the {kind} made of?", material, "other", "material"),
    ]
    return [pool[i] for i in sorted(rng.choice(len(pool), 3, replace=False))]


def make(folder: Path, images: int = 200, seed: int = 0, pictures: bool = True) -> Path:
    """Fill `folder` with configuration, data and reports for `images` pictures."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("params.yaml", "conf"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    rows, balanced, jpegs = [], [], {}
    for index in range(images):
        color, kind = str(rng.choice(list(COLORS))), str(rng.choice(TYPES))
        path = f"{index % 256:02x}/{index:08x}.jpg"
        if pictures:
            jpegs[path] = picture(color, kind, rng)
        name = f"A {color} {kind}, model {index}"
        balanced.append((path, name, kind, color, kind, path[3:-4], f"B{index:05d}"))
        for question, answer, type_, subtype in questions(rng, color, kind):
            rows.append((path, question, answer, path[3:-4], f"B{index:05d}", kind, type_, subtype))
    archives(folder / "data" / "raw" / "sample", jpegs)
    vqa = pd.DataFrame(rows, columns=COLUMNS)
    vqa["row_id"] = range(len(vqa))
    cut = vqa["image_path"].map(lambda p: int(p[3:-4], 16) % 5 == 0)
    train, test = vqa[~cut], vqa[cut]
    pd.DataFrame(
        balanced,
        columns=["image_path", "name", "product_type", "color", "keywords", "image_id", "item_id"],
    ).to_csv(folder / "data" / "balanced.csv", index=False)
    clean = Counter(kind for _, _, kind, *_ in balanced)
    pd.DataFrame(
        [(kind, int(1.3 * n), n) for kind, n in sorted(clean.items())],
        columns=["product_type", "clean", "balanced"],
    ).to_csv(folder / "data" / "types.csv", index=False)
    for name, part in (("vqa", vqa), ("train", train), ("test", test)):
        part.drop(columns=["question_type", "question_subtype"]).assign(
            question_kind=part["question_subtype"]
        ).to_csv(folder / "data" / f"{name}.csv", index=False)
    results(folder, train, test.reset_index(drop=True), vqa, rng)
    counts(folder, images, len(vqa), train, test)
    return folder


def results(folder: Path, train: pd.DataFrame, test: pd.DataFrame, vqa: pd.DataFrame,
            rng: np.random.Generator) -> None:  # fmt: skip
    """Made-up predictions of about the right accuracy; the rest is evaluation's code."""
    config = load_config(folder / "params.yaml")
    settings = config.evaluate.model_copy(update={"resamples": RESAMPLES})
    config = config.model_copy(update={"evaluate": settings})
    rows = describe_rows(test, train)
    tables = {model: answer(model, skill, rows, rng) for model, skill in SKILL.items()}
    reports = folder / "reports"
    (reports / "scores").mkdir(parents=True)
    for model, table in tables.items():
        table.to_parquet(reports / "scores" / f"{model}.parquet", index=False)
    blind = max((m for m in tables if m.startswith("blind")),
                key=lambda m: tables[m]["accuracy"].mean())  # fmt: skip
    everything = {m: t.set_index("row_id") for m, t in tables.items() if m in ("blip", "vilt")}
    write(reports / "metrics.json", mean_metrics(tables, blind))
    epochs = [{"epoch": e + 1, "validation_accuracy": 0.72 - 0.4 / (e + 1)} for e in range(8)]
    steps = [{"step": s, "loss": 3 / (1 + s / 20) + 0.1 * float(rng.random()), "lr": 2e-3}
             for s in range(160)]  # fmt: skip
    training = {"best_epoch": 8, "held_out_rows": 90, "epochs": epochs, "steps": steps}
    evaluation = {
        "signature": {metric: f"{metric}, made up" for metric in METRICS},
        "best_blind": blind,
        **analyse(tables, config),
        "closed_world": describe_candidates(train, test, config.ranking),
        "learning_curve": learning_curve_intervals(training, config.evaluate.confidence),
        "fractions": {m: study_fractions(t, len(vqa), ("f1",)) for m, t in everything.items()},
    }
    write(reports / "evaluation.json", evaluation)
    write(reports / "training.json", training)


def answer(model: str, skill: float, rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """One model's scores: right with probability `skill`, more often where a picture is easy."""
    n = len(rows)
    ease = pd.factorize(rows["image_path"])[0] * 0.618 % 1  # the same for every model
    right = rng.random(n) < np.clip(skill + 0.5 * (ease - 0.5), 0.02, 0.98)
    shuffled = rows.groupby("question_type")["answer"].transform(
        lambda answers: rng.permutation(answers.to_numpy())
    )
    failed = pd.Series((model == "blip2") & (rng.random(n) < 0.03), index=rows.index)
    said = rows["answer"].where(right, shuffled).where(~failed, "")
    hit = ((said == rows["answer"]) & ~failed).astype(float)
    sure = np.clip(0.45 + 0.4 * hit + rng.normal(0, 0.2, n), 0.01, 0.999)
    table = rows.assign(
        prediction=said,
        confidence=np.nan if model in NO_CONFIDENCE else sure,
        error=np.where(failed, "out of memory", ""),
    )
    near = rng.beta(2, 5, n)
    for metric in METRICS:
        value = hit.copy()
        if metric in ("meteor", "bleu"):
            value = hit * (0.5 if metric == "meteor" else 0.178)
        elif metric == "wup" or metric.startswith("bert"):
            value = hit + (1 - hit) * near * (1 if metric == "wup" else 0.3)
        elif metric == "bartscore":
            value = -6 + 2 * hit + near
        table[metric] = value if "accuracy" in metric else value.where(~failed)
    return table


def counts(folder: Path, images: int, rows: int, train: pd.DataFrame, test: pd.DataFrame) -> None:
    """The small JSON files of curation, annotation and split."""
    dropped = {"no_metadata": images, "no_color": images // 2, "excluded": 0}
    funnel = {"images": 3 * images, "with_metadata": 2 * images, "clean": int(1.3 * images),
              "dropped": dropped, "balanced": images, "types": len(TYPES)}  # fmt: skip
    rejected = {"two_words": 3, "duplicate": 2}
    audit = {"train_rows": len(train), "test_rows": len(test), "shared_images": 0,
             "shared_products": 0, "near_duplicates": 0, "identical_pictures": 0}  # fmt: skip
    write(folder / "data" / "funnel.json", funnel)
    write(
        folder / "data" / "generate.json", {"images": images, "pairs": rows, "rejected": rejected}
    )
    write(folder / "data" / "audit.json", audit)
    effect = {"pairs": rows, "images": images, "top_answer_share": 0.2, "yes_share": 0.5,
              "answer_bits": 4.2, "blind_accuracy": 0.3,
              "blind_interval": [0.27, 0.33]}  # fmt: skip
    names = ("before quality gate", "before reviews", "none", "blip agrees", "blind share 0.2",
             "in use")  # fmt: skip
    filters = dict.fromkeys(names, effect)
    verifiers = {"blip": {"agreement": 0.4, "failed": 2}, "blind": {"agreement": 0.3, "failed": 0}}
    verification = {"pairs": rows, "kept": rows, "verifiers": verifiers, "filters": filters}
    write(folder / "data" / "verification.json", verification)


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
