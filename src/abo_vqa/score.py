"""`abo-vqa score`: any table of answers and predictions → a score a row and metric, intervals."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.config import Config, load_config
from abo_vqa.errors import UserError
from abo_vqa.io import read_table, write_json, write_table
from abo_vqa.metrics.lexical import exact_match
from abo_vqa.metrics.statistics import bootstrap, interval
from abo_vqa.metrics.table import METRICS, WORDNET, score_pairs
from abo_vqa.stage import pin_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIGURES = ("metric-correlation", "metric-distributions", "confusions", "question-types")
CHOICES = tuple(name for name in METRICS if name != "bertscore_f1_rescaled")
NAMES = {"answer": ("answer", "ground_truth"), "prediction": ("prediction", "predicted_answer")}


def read_answers(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table as it is, and its answer, prediction, error, question and image_path.

    Raises:
        UserError: there is no answer or no prediction, or no row.
    """
    table = read_table(path)
    found = {name: next((n for n in names if n in table), None) for name, names in NAMES.items()}
    missing = [" or ".join(NAMES[name]) for name, column in found.items() if column is None]
    if missing:
        raise UserError(
            f"{path} lacks the column {' and the column '.join(missing)}; "
            f"it has {', '.join(table.columns)}."
        )
    if table.empty:
        raise UserError(f"{path} has no rows to score.")
    rows = pd.DataFrame({name: table[column] for name, column in found.items()})
    rows["error"] = table.get("error", "")
    for name in ("question", "image_path"):
        if name in table:
            rows[name] = table[name]
    return table, rows


def score_table(
    rows: pd.DataFrame, metrics: Sequence[str], config: Config, device: str = "cpu"
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A column a metric [n], in the rows' order, and the metrics' signatures.

    A row with a non-empty `error` has no scores.
    """
    failed = np.asarray(rows["error"] != "", dtype=np.bool_)
    pairs = list(zip(rows["prediction"], rows["answer"], strict=True))
    answered = [pair for pair, bad in zip(pairs, failed, strict=True) if not bad]
    scores = score_pairs(answered, metrics, scorers=config.scorers, device=device)
    columns = scores.rows(pairs, failed)
    return pd.DataFrame({name: columns[name] for name in metrics}), scores.signature


def clusters_of(rows: pd.DataFrame) -> NDArray[np.int64]:
    """What is resampled: images where the table names them, else rows."""
    if "image_path" in rows:
        return pd.factorize(rows["image_path"])[0].astype(np.int64)
    return np.arange(len(rows))


def summarise(rows: pd.DataFrame, scored: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Means over answered rows with bootstrap intervals; a metric nobody answered has none."""
    values = scored.to_numpy(dtype=float)
    settings = config.evaluate
    means = bootstrap(values, clusters_of(rows), settings.resamples, config.seed)
    bounds = interval(means, settings.confidence)
    found = {
        name: {"mean": float(np.nanmean(values[:, i])), "low": low, "high": high}
        for i, (name, (low, high)) in enumerate(zip(scored, bounds.tolist(), strict=True))
        if not np.isnan(values[:, i]).all()
    }
    answered = int((rows["error"] == "").sum())
    summary: dict[str, Any] = {"rows": len(rows), "answered": answered}
    if "exact_match" in scored:
        summary["accuracy"] = float(scored["exact_match"].fillna(0.0).mean())
    resampled = "images" if "image_path" in rows else "rows"
    return {**summary, "resampled": resampled, "metrics": found}


def draw(
    rows: pd.DataFrame, scored: pd.DataFrame, config: Config, name: str, folder: Path
) -> list[Path]:
    """The report's figures that a table of its own can have; PNGs and the numbers drawn."""
    from abo_vqa.questions import question_type
    from abo_vqa.reporting.figures import answers, metrics, save
    from abo_vqa.reporting.inputs import Results
    from abo_vqa.reporting.style import headline, styled
    from abo_vqa.slices import slices

    answered = np.asarray(rows["error"] == "", dtype=np.bool_)
    if not answered.any():
        return []
    right = [exact_match(p, a) for p, a in zip(rows["prediction"], rows["answer"], strict=True)]
    table = rows.join(scored).assign(accuracy=np.where(answered, right, 0.0))
    chosen = [metrics.correlation, metrics.distributions, answers.confusions]
    cut: dict[str, Any] = {}
    if "question" in table:
        table["question_type"] = [question_type(question) for question in table["question"]]
        cut = dict(slices({name: table}, clusters_of(rows), config, ("question_type",)))
        chosen.append(answers.question_types)
    means = {str(metric): float(table[metric].mean()) for metric in ("accuracy", *scored)}
    nothing = pd.DataFrame()
    results = Results(
        config, {name: means}, {"slices": cut}, {name: table}, {}, {}, {}, {},
        nothing, nothing, nothing, nothing,
    )  # fmt: skip
    drawn = []
    with styled():
        for figure in chosen:
            if drawing := figure(results):
                headline(drawing)
                save(drawing, folder)
                drawn.append(folder / f"{drawing.name}.png")
    return drawn


def chosen_metrics(text: str | None) -> list[str]:
    """The metrics named in "a,b"; all of them for None.

    Raises:
        UserError: one isn't known.
    """
    if text is None:
        return list(CHOICES)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in CHOICES]
    if unknown or not names:
        wrong = f"there is no metric {', '.join(unknown)}" if unknown else "no metric is named"
        raise UserError(f"--metrics {text!r}: {wrong}. There are: {', '.join(CHOICES)}.")
    return [name for name in CHOICES if name in names]


def prepare(folder: Path) -> None:
    """Make the folder for the results, free of an earlier table's figures.

    Raises:
        UserError: it can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FIGURES:
            for old in (folder / f"{name}.png", folder / "data" / f"{name}.csv"):
                old.unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out {folder}: can't write there: {error.strerror}.") from error


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        help="CSV with the columns answer (or ground_truth) and prediction (or predicted_answer); "
        "error, question and image_path are used where present",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for scores and figures")
    parser.add_argument("--metrics", help=f"some of {','.join(CHOICES)} (default: all)")


def command(args: argparse.Namespace) -> int:
    metrics = chosen_metrics(args.metrics)
    config = load_config()
    table, rows = read_answers(args.file)
    prepare(args.out)  # before any long work
    pin_threads(config.threads)
    if set(WORDNET) & set(metrics):
        from abo_vqa.metrics.wordnet import ensure_wordnet

        ensure_wordnet()  # before any long work
    device = "cpu"
    if any(name.startswith(("bert", "bart")) for name in metrics):
        from abo_vqa.models.loading import pick_device

        device = str(pick_device(config.compute.device))
    scored, signature = score_table(rows, metrics, config, device)
    summary = {**summarise(rows, scored, config), "signature": signature}
    table[metrics] = scored
    write_table(table, args.out / "scores.csv")
    write_json(summary, args.out / "summary.json")
    draw(rows, scored, config, args.file.stem, args.out)
    for name, found in summary["metrics"].items():
        print(f"{name:22} {found['mean']:8.4f}  [{found['low']:.4f}, {found['high']:.4f}]")
    print(f"{summary['answered']} of {summary['rows']} rows scored → {args.out}")
    return 0
