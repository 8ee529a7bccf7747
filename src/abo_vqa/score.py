"""`abo-vqa score`: any table of answers and predictions → a score a row and metric, intervals."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.config import Scorers, load_config
from abo_vqa.errors import UserError
from abo_vqa.io import read_table, write_json, write_table
from abo_vqa.metrics.lexical import LEXICAL
from abo_vqa.metrics.statistics import bootstrap, interval
from abo_vqa.metrics.table import score_pairs, signatures
from abo_vqa.stage import pin_threads

NEURAL = ("bertscore_precision", "bertscore_recall", "bertscore_f1", "bartscore")
METRICS = (*LEXICAL, *NEURAL)
NAMES = {"ground_truth": "answer", "predicted_answer": "prediction"}


def score_table(
    table: pd.DataFrame, metrics: Sequence[str], scorers: Scorers
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table with a column a metric, rows in their order; and the neural metrics' signatures.

    A row with a non-empty `error` has no scores.
    """
    failed = failures(table)
    pairs = list(zip(table["prediction"], table["answer"], strict=True))
    answered = [pair for pair, bad in zip(pairs, failed, strict=True) if not bad]
    neural = scorers if set(metrics) & set(NEURAL) else None
    values, made = score_pairs(answered, sorted(set(table["answer"])), neural)
    scored = table.copy()
    for name in metrics:
        found = values[name]
        column = [np.nan if bad else found[p] for p, bad in zip(pairs, failed, strict=True)]
        scored[name] = np.array(column, dtype=float)
    return scored, made


def failures(table: pd.DataFrame) -> list[bool]:
    return [bool(e) for e in table["error"]] if "error" in table else [False] * len(table)


def summarise(
    scored: pd.DataFrame, metrics: Sequence[str], resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Means with bootstrap intervals, over images where the table names them, else over rows."""
    clusters = (
        pd.factorize(scored["image_path"])[0].astype(np.int64)
        if "image_path" in scored
        else np.arange(len(scored))
    )
    values = scored[list(metrics)].to_numpy(dtype=float)
    bounds = interval(bootstrap(values, clusters, resamples, seed), confidence)
    failed = failures(scored)
    right = scored[metrics[0]].fillna(0.0) if metrics[0] == "exact_match" else None
    return {
        "rows": len(scored),
        "answered": len(scored) - sum(failed),
        **({} if right is None else {"accuracy": float(right.mean())}),
        "resampled": "images" if "image_path" in scored else "rows",
        "metrics": {
            name: {"mean": float(np.nanmean(values[:, i])), "low": low, "high": high}
            for i, (name, (low, high)) in enumerate(zip(metrics, bounds.tolist(), strict=True))
        },
    }


def draw(scored: pd.DataFrame, metrics: Sequence[str], folder: Path) -> None:
    """metrics.png: the distribution of each metric over the rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(4, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.2 * columns, 2.4 * rows), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes.flat, metrics, strict=False):
        values = scored[name].dropna()
        axis.hist(values, bins=30, color="#0072B2")
        axis.set_title(f"{name}: mean {values.mean():.3f}, n {len(values):,}", fontsize=8)
        axis.set_ylabel("rows", fontsize=7)
        axis.tick_params(labelsize=7)
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    figure.savefig(folder / "metrics.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def chosen_metrics(text: str | None) -> list[str]:
    """The metrics named in "a,b"; all of them for None.

    Raises:
        UserError: one isn't known.
    """
    if text is None:
        return list(METRICS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise UserError(
            f"--metrics {text!r}: {', '.join(unknown) or 'nothing'} isn't a metric. "
            f"There are: {', '.join(METRICS)}."
        )
    return [name for name in METRICS if name in names]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="CSV with the columns answer and prediction")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores and figures")
    parser.add_argument("--metrics", help=f"some of {','.join(METRICS)} (default: all)")


def command(args: argparse.Namespace) -> int:
    metrics = chosen_metrics(args.metrics)
    table = read_table(args.file)
    table = table.rename(columns={old: new for old, new in NAMES.items() if new not in table})
    missing = [name for name in ("answer", "prediction") if name not in table]
    if missing:
        raise UserError(
            f"{args.file} lacks {' and '.join(missing)} (ground_truth and predicted_answer are "
            f"accepted too); it has {', '.join(table.columns)}."
        )
    if table.empty:
        raise UserError(f"{args.file} has no rows to score.")
    config = load_config()
    pin_threads(config.threads)
    if {"meteor", "wup"} & set(metrics):
        from abo_vqa.metrics.wordnet import ensure_wordnet

        ensure_wordnet()
    scored, made = score_table(table, metrics, config.scorers)
    settings = config.evaluate
    summary = summarise(scored, metrics, settings.resamples, settings.confidence, config.seed)
    known = {**signatures(settings.aliases), **made}
    summary["signature"] = {name: known[name] for name in metrics}
    write_table(scored, args.out / "scores.csv")
    write_json(summary, args.out / "summary.json")
    draw(scored, metrics, args.out)
    for name, found in summary["metrics"].items():
        print(f"{name:22} {found['mean']:8.4f}  [{found['low']:.4f}, {found['high']:.4f}]")
    print(f"{summary['answered']} of {summary['rows']} rows scored → {args.out}")
    return 0
