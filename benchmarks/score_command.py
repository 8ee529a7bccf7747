"""`abo-vqa score` of a table as large as the study's set: processor seconds and peak memory.

    python benchmarks/score_command.py
    python benchmarks/score_command.py --rows 9109 --pairs 1820    # the study's test rows

46,000 made-up rows about 15,000 pictures with 11,000 distinct (prediction, answer) pairs, as many
as a zero-shot model has that answers freely: common pairs are very common, an eighth of the others
have several words. All metrics that need no neural model, the intervals, figures and tables,
imports and opening WordNet included, in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from abo_vqa.evaluation.pair_scores import TEXT_METRICS
from abo_vqa.evaluation.wordnet import ensure_wordnet
from abo_vqa.evaluation.wordnet_reader import WordNetReader

QUESTIONS = (
    "What color is the {}?", "What is the {} made of?", "How many {} are there?",
    "Is the {} round?", "What shape is the {}?", "What pattern is on the {}?", "What is shown?",
)  # fmt: skip


def made_up(rows: int, pairs: int, pictures: int, seed: int = 0) -> pd.DataFrame:
    """A table of predictions; Zipf's law over the distinct pairs, four in ten of them right."""
    rng = np.random.default_rng(seed)
    names = sorted(n for n in WordNetReader(ensure_wordnet()).all_lemma_names("n") if n.isalpha())
    vocabulary = rng.permutation(names)[:1800]
    distinct: dict[tuple[str, str], None] = {}
    while len(distinct) < pairs:
        answer, prediction, more = rng.choice(vocabulary, 3)
        if len(distinct) < 0.1 * pairs:
            prediction = answer
        elif rng.random() < 0.125:
            prediction = f"the {prediction} {more}"
        distinct[str(prediction), str(answer)] = None
    listed = list(distinct)
    weights = 1 / np.arange(1, pairs + 1)
    drawn = rng.choice(pairs, rows - pairs, p=weights / weights.sum())
    picked = [listed[i] for i in rng.permutation([*range(pairs), *drawn])]
    questions = [str(rng.choice(QUESTIONS)).format(name) for name in rng.choice(vocabulary, rows)]
    return pd.DataFrame(
        {
            "image_path": [f"{i % 256:02x}/{i:08x}.jpg" for i in rng.integers(pictures, size=rows)],
            "question": questions,
            "answer": [answer for _, answer in picked],
            "prediction": [prediction for prediction, _ in picked],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=46_000)
    parser.add_argument("--pairs", type=int, default=11_000)
    parser.add_argument("--pictures", type=int, default=15_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "predictions.csv"
        made_up(args.rows, args.pairs, args.pictures).to_csv(file, index=False)
        command = [sys.executable, "-m", "abo_vqa", "score", str(file), "--out", f"{name}/out",
                   "--metrics", ",".join(TEXT_METRICS)]  # fmt: skip
        start = time.perf_counter()
        subprocess.run(command, check=True)
        wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{args.rows:,} rows, {args.pairs:,} distinct pairs, {len(TEXT_METRICS)} metrics: "
          f"{used.ru_utime + used.ru_stime:.1f} processor seconds, {wall:.1f} s, "
          f"{used.ru_maxrss / 1024:.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
