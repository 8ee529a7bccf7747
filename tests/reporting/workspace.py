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

ROOT = Path(__file__).parents[2]
COLORS = {"red": "#c62828", "blue": "#1565c0", "green": "#2e7d32", "black": "#212121",
          "white": "#eeeeee", "yellow": "#f9a825"}  # fmt: skip
TYPES = ["lamp", "chair", "mug", "sofa", "rug", "shoe"]
COUNTS = ["one", "two", "three", "four"]
MATERIALS = ["wood", "metal", "ceramic", "plastic"]
SKILL = {"blip": 0.5, "blip2": 0.4, "clip-fixed": 0.14, "clip-train": 0.12, "clip-all": 0.05,
         "llava": 0.52, "vilt": 0.36, "blind-majority": 0.13, "blind-type": 0.28,
         "blind-question": 0.4, "blind-ngram": 0.43, "finetuned": 0.7}  # fmt: skip
COLUMNS = ["image_path", "question", "answer", "image_id", "item_id", "product_type",
           "question_type", "question_subtype"]  # fmt: skip
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
        columns=["path", "name", "product_type", "color", "keywords", "image_id", "item_id"],
    ).to_csv(folder / "data" / "balanced.csv", index=False)
    clean = Counter(kind for _, _, kind, *_ in balanced)
    pd.DataFrame(
        [(kind, int(1.3 * n), n) for kind, n in sorted(clean.items())],
        columns=["product_type", "clean", "balanced"],
    ).to_csv(folder / "data" / "types.csv", index=False)
    for name, part in (("vqa", vqa), ("train", train), ("test", test)):
        part.drop(columns=["question_type", "question_subtype"]).rename(columns={}).assign(
            question_kind=part["question_subtype"]
        ).to_csv(folder / "data" / f"{name}.csv", index=False)
    results(folder, train, test.reset_index(drop=True), rng)
    counts(folder, images, len(vqa), train, test)
    return folder


def results(
    folder: Path, train: pd.DataFrame, test: pd.DataFrame, rng: np.random.Generator
) -> None:
    """Predictions of the right accuracy, hence scores, metrics and evaluation."""
    scores_dir = folder / "reports" / "scores"
    scores_dir.mkdir(parents=True)
    seen_questions = set(train["question"])
    seen_pairs = set(zip(train["question"], train["answer"], strict=True))
    ease = rng.random(len(test))
    metrics, intervals, slices, right = {}, {}, {}, {}
    for model, skill in SKILL.items():
        correct = 0.6 * ease + 0.4 * rng.random(len(test)) > np.quantile(
            0.6 * ease + 0.4 * rng.random(len(test)), 1 - skill
        )
        wrong = test.groupby("question_type")["answer"].transform(
            lambda answers: rng.permutation(answers.to_numpy())
        )
        prediction = test["answer"].where(correct, wrong)
        error = np.where((model == "blip2") & (rng.random(len(test)) < 0.02), "out of memory", "")
        prediction = prediction.where(error == "", "")
        if model == "blip2":
            prediction = prediction.where(correct | (rng.random(len(test)) < 0.8), "")
        failed = pd.Series(error != "")
        hit = (prediction == test["answer"]) & ~failed
        confidence = np.clip(0.45 + 0.4 * hit + rng.normal(0, 0.2, len(test)), 0.01, 0.999)
        if model in ("llava", "blind-majority", "blind-type", "blind-question"):
            confidence = np.full(len(test), np.nan)
        table = test[["row_id", "image_path", "question", "answer"]].assign(
            prediction=prediction, confidence=confidence, error=error,
            question_type=test["question_type"], question_subtype=test["question_subtype"],
            answer_type=np.where(test["answer"].isin(COUNTS), "number", "word"),
            product_type=test["product_type"],
            seen_question=test["question"].isin(seen_questions),
            seen_pair=[pair in seen_pairs for pair in zip(test["question"], test["answer"],
                                                          strict=True)],
        )  # fmt: skip
        base = hit.astype(float)
        near = rng.beta(2, 5, len(test))
        for metric in METRICS:
            value = base.copy()
            if metric == "meteor":
                value = base * 0.5
            elif metric == "bleu":
                value = base * 0.178
            elif metric == "wup":
                value = base + (1 - base) * near
            elif metric == "bartscore":
                value = -6 + 2 * base + near
            elif metric.startswith("bert"):
                value = base + (1 - base) * (0.2 * near + (0.78 if "resc" not in metric else 0.1))
            table[metric] = value.where(~failed) if metric != "accuracy" else value
        table.to_parquet(scores_dir / f"{model}.parquet")
        right[model] = table["accuracy"]
        metrics[model] = {m: float(table[m].mean()) for m in METRICS}
        metrics[model] |= {"coverage": float(1 - failed.mean()), "n": len(table)}
        intervals[model] = {m: bounds(table[m].dropna()) for m in METRICS}
        slices[model] = {
            name: [
                {"value": str(value), "n": len(part), "accuracy": float(part["accuracy"].mean()),
                 "low": bounds(part["accuracy"])[0], "high": bounds(part["accuracy"])[1]}
                for value, part in table.groupby(name)
            ]
            for name in ("question_type", "question_subtype", "answer_type", "product_type",
                         "seen_pair")
        }  # fmt: skip
    blind = max((m for m in metrics if m.startswith("blind")), key=lambda m: metrics[m]["accuracy"])
    for model in metrics:
        gain = metrics[model]["accuracy"] - metrics[blind]["accuracy"]
        metrics[model]["gain_over_blind"] = gain
    write(folder / "reports" / "metrics.json", metrics)
    names = list(metrics)
    pairs = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            difference = right[a] - right[b]
            low, high = bounds(difference)
            p = 0.0001 if low > 0 or high < 0 else 0.3
            pairs.append({"a": a, "b": b, "metric": "accuracy", "difference":
                          float(difference.mean()), "low": low, "high": high, "mcnemar_p": p,
                          "permutation_p": p, "p_adjusted": min(1, 3 * p),
                          "significant": 3 * p < 0.05})  # fmt: skip
    write(
        folder / "reports" / "evaluation.json",
        {"signature": {m: f"{m}|made up" for m in METRICS}, "intervals": intervals,
         "pairs": pairs, "slices": slices, "best_blind": blind,
         "minimum_detectable_difference": 0.061},
    )  # fmt: skip
    epochs = [{"epoch": e + 1, "validation_accuracy": 0.72 - 0.4 / (e + 1)} for e in range(8)]
    steps = [{"step": s, "loss": 3 / (1 + s / 20) + 0.1 * float(rng.random()), "lr": 2e-3}
             for s in range(160)]  # fmt: skip
    write(folder / "reports" / "training.json", {"best_epoch": 8, "epochs": epochs, "steps": steps})


def bounds(values: pd.Series) -> list[float]:
    half = 1.96 * float(values.std(ddof=0)) / np.sqrt(max(len(values), 1))
    return [float(values.mean() - half), float(values.mean() + half)]


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


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
