"""`audit`, `evaluate` and `report` at the study's size: processor seconds, peak memory, page sizes.

    python benchmarks/study_size.py                    # after the sample's models are pulled
    python benchmarks/study_size.py --rows 12000 --keep build/study

45,482 made-up rows about 14,777 pictures, split by picture; seven zero-shot models' and the blind
ones' predictions of all rows and the fine-tuned model's of the test rows, right as often as the
study's; noise for pictures. Each stage's own code runs in a process of its own, imports included;
the neural scorers are the sample's small ones, MLflow's part is left out.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from helpers import study_questions
from helpers.abo_shaped import add

ROOT = Path(__file__).parents[1]
SKILL = {
    "baselines/blip": 0.51, "baselines/blip2": 0.42, "baselines/clip-fixed": 0.10,
    "baselines/clip-train": 0.08, "baselines/clip-all": 0.05, "baselines/llava": 0.54,
    "baselines/vilt": 0.37, "baselines/blind/majority": 0.13, "baselines/blind/type": 0.28,
    "baselines/blind/question": 0.40, "baselines/blind/ngram": 0.44, "finetuned": 0.67,
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


def tar_of(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            add(tar, name, content)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def workspace(folder: Path, rows: int, seed: int = 0) -> None:
    """What the stages before `evaluate` leave behind."""
    rng = np.random.default_rng(seed)
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "models").mkdir()
    (folder / "models" / "sample").symlink_to(ROOT / "models" / "sample")
    data, reports = folder / "data", folder / "reports"
    (data / "raw" / "sample").mkdir(parents=True)
    pictures = round(rows * study_questions.PICTURES / study_questions.ROWS)
    vqa = study_questions.table(rows, pictures, seed)
    paths = sorted(set(vqa["image_path"]))
    share = 1 / np.arange(1, TYPES + 1)
    products = pd.DataFrame(
        {
            "image_path": paths,
            "name": [f"product {i}" for i in range(len(paths))],
            "product_type": [
                f"type{i}" for i in rng.choice(TYPES, len(paths), p=share / share.sum())
            ],
            "color": "red",
            "keywords": "made, up",
            "item_id": [f"B{i:09d}" for i in range(len(paths))],
            "image_sha1": [rng.bytes(20).hex() for _ in paths],
            "phash": [rng.bytes(8).hex() for _ in paths],
        }
    )
    shown = products.set_index("image_path").loc[vqa["image_path"]].reset_index(drop=True)
    vqa = vqa.join(shown[["item_id", "image_sha1", "phash", "product_type"]])
    vqa["row_id"] = range(len(vqa))
    held_out = vqa["image_path"].isin(set(rng.permutation(paths)[: len(paths) // 5]))
    test = vqa[held_out]
    for name, table in (("vqa", vqa), ("train", vqa[~held_out]), ("test", test),
                        ("balanced", products)):  # fmt: skip
        table.to_csv(data / f"{name}.csv", index=False)
    sizes = products["product_type"].value_counts().sort_index()
    types = {"product_type": sizes.index, "clean": 2 * sizes, "balanced": sizes}
    pd.DataFrame(types).to_csv(data / "types.csv", index=False)
    funnel = {"images": 398_212, "with_metadata": 123_551, "clean": 72_427, "types": TYPES,
              "balanced": len(paths), "dropped": {"no_metadata": 274_661}}  # fmt: skip
    write_json(data / "funnel.json", funnel)
    write_json(data / "generate.json", {"images": len(paths), "pairs": rows, "rejected": {}})
    write_json(data / "audit.json", {"train_rows": rows - len(test), "test_rows": len(test)})
    for name, skill in SKILL.items():
        (reports / name).mkdir(parents=True)
        answers = predictions(test if name == "finetuned" else vqa, skill, rng)
        answers.to_csv(reports / name / "predictions.csv", index=False)
    steps = [{"step": s, "loss": 3 / (1 + s / 500), "lr": 5e-5} for s in range(0, 13_640, 50)]
    epochs = [{"epoch": e, "validation_accuracy": 0.6 + 0.02 * e} for e in (1, 2, 3)]
    training = {"best_epoch": 3, "held_out_rows": 1800, "epochs": epochs, "steps": steps}
    write_json(reports / "training.json", training)
    listed = "image_id,height,width,path\n" + "".join(f"{p[3:-4]},256,256,{p}\n" for p in paths)
    members = {"images/metadata/images.csv.gz": gzip.compress(listed.encode(), mtime=0)}
    members |= {f"images/small/{p}": jpeg(rng) for p in sorted(set(test["image_path"]))}
    tar_of(data / "raw" / "sample" / "abo-images-small.tar", members)
    tar_of(data / "raw" / "sample" / "abo-listings.tar", {})


def run_audit() -> None:
    from abo_vqa.cli import main

    main(["audit", "--train", "data/train.csv", "--test", "data/test.csv"])


def run_evaluate() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.core.stage import pin_threads
    from abo_vqa.stages.evaluate import run

    config = load_config()
    pin_threads(config.threads)
    run(config)


def run_report() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.stages.report import run

    print(run(load_config()).message)


STAGES: dict[str, Callable[[], None]] = {
    "audit": run_audit,
    "evaluate": run_evaluate,
    "report": run_report,
}


def measured(stage: str, folder: Path) -> str:
    """One line: what a stage took in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--stage", stage]
    process = subprocess.Popen(command, cwd=folder)
    _, status, used = os.wait4(process.pid, 0)  # this process's use, not all children's
    if status:
        raise SystemExit(f"{stage} failed")
    return (
        f"{stage:9} {used.ru_utime + used.ru_stime:6.1f} processor seconds, "
        f"{time.perf_counter() - start:6.1f} s, {used.ru_maxrss / 1024:6.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=study_questions.ROWS)
    parser.add_argument("--keep", type=Path, help="make the workspace here and leave it")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        STAGES[args.stage]()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        if not (folder / "data").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            workspace(folder, args.rows)
        lines = [measured(stage, folder) for stage in STAGES]
        pages = [folder / "reports" / page for page in ("report.html", "browser.html")]
        pages += [folder / "reports" / "metrics.json", folder / "reports" / "evaluation.json"]
        print("\n".join(lines))
        print(", ".join(f"{p.name} {p.stat().st_size / 1e6:.1f} MB" for p in pages))


if __name__ == "__main__":
    main()
