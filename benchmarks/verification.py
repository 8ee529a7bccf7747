"""How well a second opinion finds wrong answers: a tenth of the sample's are made wrong.

    make repro && python benchmarks/verification.py     # three plantings
    python benchmarks/verification.py --seeds 1         # one
    python benchmarks/verification.py --untrained       # only what `verify.models` can name
    python benchmarks/verification.py --threads 1       # faster on a busy machine

Every planted answer is another row's answer to a question of the same kind, so that none is absurd.
Verifiers answer as in the stage `verify`. Beside them stands what costs a training each, the
ranking of `abo-vqa suspects`: LoRA of `lora.model` on four fifths of the images (look-alikes
together), planted errors included, which judges the last fifth (Northcutt et al., "Confident
Learning", JAIR 70, 2021, arXiv:1911.00068). Its margin is the log-likelihood of its own answer
minus that of the generated one.

Each figure is the mean of the plantings; its 95% interval resamples the images, the same ones in
every planting (percentile bootstrap). With `--keep FOLDER`, every model's answers are kept there as
CSVs, and an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from abo_vqa.annotate.verification.agreement import agreements
from abo_vqa.annotate.verification.opinions import ask_verifier
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.paths import GENERATED
from abo_vqa.core.stage import pin_threads
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.normalise import normalise
from abo_vqa.evaluation.aliases import alias_matcher
from abo_vqa.evaluation.intervals import percentile_interval
from abo_vqa.training.suspicion import cross_fitted_margins

SHARE, FOLDS = 0.1, 5
SEEING = ("blip", "blip2", "llava", "vilt", "clip-fixed")
RECALLS, PRECISION = (0.5, 0.8, 0.9), 0.5
LORA = "LoRA, fitted on the other fifths, disagrees"
RESAMPLES, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class Planting:
    """What was made wrong in n rows, and how suspicious each row is to whom.

    Attributes:
        wrong: [n] whether the answer was planted.
        suspicion: ranking → [n], the larger the more suspicious.
    """

    wrong: np.ndarray
    suspicion: Mapping[str, np.ndarray]


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


def ranking_quality(
    suspicion: np.ndarray, wrong: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """The best precision at each of RECALLS or more, and the best recall at PRECISION or more.

    Going down the ranking, ties are taken whole. Recall is 0 where no precision is enough.

    Args:
        suspicion: [n].
        wrong: [n].
        weights: [n] how often each row counts; once by default.
    """
    order = np.argsort(-suspicion, kind="stable")
    counted = np.ones(len(order)) if weights is None else weights[order]
    last = np.append(np.diff(suspicion[order]) != 0, True)
    hits, rows = np.cumsum(counted * wrong[order])[last], np.cumsum(counted)[last]
    recall, precision = hits / max(1, hits[-1]), hits / np.maximum(1, rows)
    at_recalls = [precision[recall >= wanted].max(initial=0) for wanted in RECALLS]
    return np.array([*at_recalls, recall[precision >= PRECISION].max(initial=0)])


def mean_quality(
    plantings: Sequence[Planting], name: str, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[4] the mean of `ranking_quality` over the plantings, and [4, 2] its interval."""

    def mean(weights: np.ndarray | None) -> np.ndarray:
        each = [ranking_quality(one.suspicion[name], one.wrong, weights) for one in plantings]
        return np.mean(each, axis=0)

    rng, count = np.random.default_rng(0), images.max() + 1
    resampled = [
        mean(np.bincount(rng.integers(0, count, count), minlength=count)[images].astype(float))
        for _ in range(RESAMPLES)
    ]
    return mean(None), percentile_interval(np.array(resampled), CONFIDENCE)


class Keeper:
    """Keeps tables in a folder, or computes them anew where there is none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder.resolve() if folder else None

    def table(self, name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        if self.folder is None:
            return compute()
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            write_table(compute(), path)
        return read_table(path)


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


def zero_shot_answers(
    config: Config, table: pd.DataFrame, keeper: Keeper
) -> dict[str, pd.DataFrame]:
    """Ask the models that see the image, which know nothing of the answers."""
    with workspace(table):
        return {
            name: keeper.table(name, lambda name=name: ask_verifier(name, config, table).answers)
            for name in SEEING
        }


def lora_judgements(config: Config, table: pd.DataFrame) -> pd.DataFrame:
    """The cross-fitted LoRA's own answers and margins (floats as texts)."""
    with workspace(table), cross_fitted_margins(config, table, FOLDS) as judged:
        return judged.assign(margin=[repr(float(margin)) for margin in judged["margin"]])


def judge(
    table: pd.DataFrame,
    wrong: np.ndarray,
    opinions: Mapping[str, pd.DataFrame],
    judged: pd.DataFrame | None,
    matches: Callable[[str, str], float],
) -> Planting:
    """Rank a planted table's rows by everything that doubts them."""
    agreed = agreements(table, opinions, matches)
    votes = {name: 1 - agrees.fillna(1).to_numpy() for name, agrees in agreed.items()}
    suspicion = {f"{name} disagrees": vote for name, vote in votes.items()}
    share = np.mean([votes[name] for name in SEEING], axis=0)
    suspicion["share of the five that disagree"] = share
    if judged is None:
        return Planting(wrong, suspicion)
    pairs = zip(judged["own_answer"], table["answer"], strict=True)
    suspicion[LORA] = np.array([1 - matches(*pair) for pair in pairs])
    margin = judged["margin"].to_numpy().astype(float)
    suspicion["the same, by its margin (`abo-vqa suspects`)"] = margin
    rank = pd.Series(margin).rank(pct=True).to_numpy()
    suspicion["that margin and the five's share"] = rank + share
    return Planting(wrong, suspicion)


def print_rankings(plantings: Sequence[Planting], images: np.ndarray) -> None:
    columns = [*(f"precision at recall {recall:.0%}" for recall in RECALLS),
               f"recall at precision {PRECISION:.0%}"]  # fmt: skip
    print(f"\n| ranked by | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in plantings[0].suspicion:
        quality, interval = mean_quality(plantings, name, images)
        cells = [f"{q:.1%} [{low:.1%}, {high:.1%}]"
                 for q, (low, high) in zip(quality, interval, strict=True)]  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def print_false_alarms(plantings: Sequence[Planting], kinds: pd.Series) -> None:
    """Why recall is limited: how many right answers LoRA doubts, by kind of question."""
    print(f"\n| kind of question | rows | right answers that {LORA.partition(',')[0]} doubts |")
    print("|---|---|---|")
    for kind, rows in kinds.groupby(kinds).groups.items():
        mine = kinds.index.isin(rows)
        shares = [one.suspicion[LORA][mine & ~one.wrong].mean() for one in plantings]
        print(f"| {kind} | {len(rows):,} | {np.mean(shares):.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the plantings")
    parser.add_argument("--untrained", action="store_true", help="leave out what needs a training")
    parser.add_argument("--threads", type=int, help="params.yaml's by default")
    parser.add_argument("--keep", type=Path, help="a folder for the models' answers")
    args = parser.parse_args()
    config, keeper = load_config(), Keeper(args.keep)
    judged = None
    config = config.model_copy(update={"threads": args.threads or config.threads})
    pin_threads(config.threads)
    table = read_table(GENERATED)
    matches = alias_matcher(config.evaluate.aliases)
    plantings: list[Planting] = []
    seeing = zero_shot_answers(config, table, keeper)
    for seed in args.seeds:
        start = time.process_time()
        planted, wrong = plant(table, seed)
        blind = ask_verifier("blind", config, planted).answers
        if not args.untrained:
            judged = keeper.table(f"lora-{seed}", partial(lora_judgements, config, planted))
        plantings.append(judge(planted, wrong, {**seeing, "blind": blind}, judged, matches))
        quality = ", ".join(
            f"{ranking_quality(suspicion, wrong)[-1]:.1%} ({name})"
            for name, suspicion in plantings[-1].suspicion.items()
        )
        print(f"planting {seed}: {wrong.sum()} of {len(table):,} answers are wrong; recall at "
              f"precision {PRECISION:.0%}: {quality}; {time.process_time() - start:.0f} processor "
              "seconds", flush=True)  # fmt: skip
    print_rankings(plantings, pd.factorize(table["image_path"])[0])
    if not args.untrained:
        print_false_alarms(plantings, table["question_kind"])


if __name__ == "__main__":
    sys.exit(main())
