"""How well a second opinion finds wrong answers: a tenth of the sample's are made wrong.

    make repro && python benchmarks/verification.py       # about 5 minutes on 2 cores

Every planted answer is another row's answer to a question of the same kind, so that none is absurd.
Verifiers answer as in the stage `verify`. Beside them stands what costs a training each, the
ranking of `abo-vqa suspects`: LoRA of `lora.model` on four fifths of the images (look-alikes
together), planted errors included, which judges the last fifth (Northcutt et al., "Confident
Learning", JAIR 70, 2021, arXiv:1911.00068). Its margin is the log-likelihood of its own answer
minus that of the generated one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from abo_vqa.annotate.verification.agreement import agreements
from abo_vqa.annotate.verification.opinions import ask_verifier
from abo_vqa.core.config import load_config
from abo_vqa.core.paths import GENERATED
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.normalise import normalise
from abo_vqa.evaluation.aliases import alias_matcher
from abo_vqa.training.suspicion import cross_fitted_margins

SHARE, FOLDS = 0.1, 5
VERIFIERS = ("blip", "blip2", "llava", "vilt", "clip-fixed", "blind")


def plant(table: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Give a share of the rows another row's answer to a question of the same kind."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(table), dtype=bool)
    answers = table["answer"].tolist()
    by_kind = table.groupby("question_kind")["answer"].agg(list)
    for i in rng.permutation(len(table)):
        if wrong.sum() == round(SHARE * len(table)):
            break
        truth = normalise(answers[i])
        others = [a for a in by_kind[table["question_kind"].iloc[i]] if normalise(a) != truth]
        if others:
            answers[i], wrong[i] = others[rng.integers(len(others))], True
    return table.assign(answer=answers), wrong


def report(name: str, suspicion: np.ndarray, wrong: np.ndarray) -> None:
    """Print precision at several recalls, going down a ranking by suspicion (ties together)."""
    order = np.argsort(-suspicion, kind="stable")
    found, seen = np.cumsum(wrong[order]), np.arange(1, len(order) + 1)
    last = np.append(np.diff(suspicion[order]) != 0, True)  # a tie is taken whole
    recall, precision = (found / wrong.sum())[last], (found / seen)[last]
    cells = []
    for wanted in (0.5, 0.8, 0.9):
        enough = np.flatnonzero(recall >= wanted)
        cells.append(f"{precision[enough].max():6.1%}")
    half = recall[precision >= 0.5].max(initial=0)
    print(f"{name:34} {'  '.join(cells)}   {half:6.1%}", flush=True)


@contextmanager
def workspace(table: pd.DataFrame) -> Iterator[None]:
    """A folder like the checkout, with the planted table; entered."""
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("conf", "params.yaml", "dvc.yaml", "src", ".dvc"):
            (folder / part).symlink_to(root / part)
        (folder / "data").mkdir()
        (folder / "models").mkdir()
        for part in ("data/raw", "data/embeddings", "models/sample"):
            (folder / part).symlink_to(root / part)
        os.chdir(folder)
        try:
            write_table(table, GENERATED)
            yield
        finally:
            os.chdir(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the planting (%(default)s)")
    args = parser.parse_args()
    config = load_config()
    table, wrong = plant(read_table(GENERATED), args.seed)
    print(f"{wrong.sum()} of {len(table):,} answers are wrong")
    print(f"{'precision at recall':34}   50 %     80 %     90 %   recall at precision 50 %")
    matches = alias_matcher(config.evaluate.aliases)
    with workspace(table):
        opinions = {name: ask_verifier(name, config, table).answers for name in VERIFIERS}
        votes = {
            k: 1 - v.fillna(1).to_numpy() for k, v in agreements(table, opinions, matches).items()
        }
        for name, disagrees in votes.items():
            report(name, disagrees, wrong)
        seeing = np.mean([votes[name] for name in VERIFIERS if name != "blind"], axis=0)
        report("share of the five that disagree", seeing, wrong)
        with cross_fitted_margins(config, table, FOLDS) as judged:
            margin = judged["margin"].to_numpy()
            pairs = zip(judged["own_answer"], table["answer"], strict=True)
            disagrees = np.array([1 - matches(*pair) for pair in pairs])
    report("cross-fitted LoRA disagrees", disagrees, wrong)
    report("cross-fitted LoRA, by its margin", margin, wrong)
    rank = pd.Series(margin).rank(pct=True).to_numpy()
    report("margin and the five's share", rank + seeing, wrong)


if __name__ == "__main__":
    sys.exit(main())
