"""What it does to the ranking of models if one of them has filtered the rows that rank them.

    make repro && python benchmarks/circular_filters.py       # about 5 minutes on 2 cores

A tenth of the answers about 300 of the sample's images are made wrong (see `verification.py`),
three times with different seeds. The models answer all questions; then `min_agreement: 0.5` with
one model in `verify.models` keeps the pairs that this model agrees with, and all models are scored
on these. Accuracy is that of the evaluation. The share of wrong answers says what a filter is for.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pandas as pd
from verification import plant, workspace

from abo_vqa.annotate.verification.filtered import apply_filters
from abo_vqa.annotate.verification.opinions import ask_verifier
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.paths import GENERATED
from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import same_answer
from abo_vqa.evaluation.aliases import alias_matcher
from abo_vqa.evaluation.wordnet import ensure_wordnet

SEEDS = (1, 2, 3)


def kept_by(name: str, config: Config, table: pd.DataFrame, answers: pd.DataFrame) -> np.ndarray:
    """[n] what the stage `verify` keeps if one model alone filters."""
    settings = {"models": (name,), "min_agreement": 0.5, "blind_share": None}
    alone = config.model_copy(update={"verify": config.verify.model_copy(update=settings)})
    return apply_filters(alone, table, {name: answers}, alias_matcher(config.evaluate.aliases)).kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--models", nargs="+", default=["blip", "blip2", "vilt"])
    args = parser.parse_args()
    config = load_config()
    ensure_wordnet()
    table = read_table(GENERATED)
    chosen = table["image_path"].drop_duplicates().sample(args.images, random_state=0)
    table = table[table["image_path"].isin(chosen)].reset_index(drop=True)
    with workspace(table):
        answers = {name: ask_verifier(name, config, table).answers for name in args.models}
    columns = ["pairs", "wrong", *args.models]
    rows: dict[str, list[list[float]]] = {name: [] for name in ("nobody", *args.models)}
    for seed in SEEDS:
        planted, wrong = plant(table, seed)
        right = {
            name: own["prediction"].combine(planted["answer"], same_answer).to_numpy(dtype=bool)
            for name, own in answers.items()
        }
        for name, results in rows.items():
            kept = np.ones(len(table), bool)
            if name != "nobody":
                kept = kept_by(name, config, planted, answers[name])
            accuracies = [own[kept].mean() for own in right.values()]
            results.append([kept.sum(), wrong[kept].mean(), *accuracies])
    print(f"{len(table):,} pairs; mean of {len(SEEDS)} plantings (lowest to highest), in percent")
    print(f"{'filtered by':12}" + "".join(f"{column:>22}" for column in columns))
    for name, results in rows.items():
        cells = []
        for column, values in zip(columns, np.transpose(results), strict=True):
            scale, digits = (1, 0) if column == "pairs" else (100, 1)
            mean, low, high = (scale * v for v in (values.mean(), values.min(), values.max()))
            cells.append(f"{mean:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})")
        print(f"{name:12}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
