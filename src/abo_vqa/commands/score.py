"""`abo-vqa score`: any table of answers and predictions → a score a row and metric, intervals."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_results
from abo_vqa.core.paths import SAMPLE_MODELS
from abo_vqa.core.stage import pin_threads
from abo_vqa.core.tables import write_table
from abo_vqa.data.columns import add_columns_option
from abo_vqa.evaluation.answer_table import read_answer_table
from abo_vqa.evaluation.clusters import describe_clusters
from abo_vqa.evaluation.pair_scores import METRIC_NAMES, RESULT_DIGITS, WORDNET_METRICS
from abo_vqa.evaluation.table_scores import score_table, summarise_table
from abo_vqa.evaluation.wordnet import ensure_wordnet
from abo_vqa.reporting.score_figures import SCORE_FIGURES, draw_score_figures

_CHOICES = ("accuracy", *(name for name in METRIC_NAMES if name != "bertscore_f1_rescaled"))
_REAL = {"bertscore": "roberta-large", "bartscore": "bart-large-cnn"}


def neural(metric: str) -> bool:
    """Whether a metric needs a model."""
    return metric.startswith(tuple(_REAL))


def encoder(metric: str, config: Config) -> str:
    """The model behind a neural metric, in words for the terminal; "" for the others."""
    if not neural(metric):
        return ""
    family = "bertscore" if metric.startswith("bertscore") else "bartscore"
    path = str(getattr(config.scorers, family).path)
    return f"toy encoder {path}, not {_REAL[family]}" if toy(path) else path


def toy(path: str) -> bool:
    """Whether a model is one of the embedded sample's."""
    return Path(path).absolute().is_relative_to(SAMPLE_MODELS.absolute())


def _chosen_metrics(text: str | None, config: Config) -> list[str]:
    """The metrics named in "a,b"; for None all whose models can be taken seriously.

    Raises:
        UserError: one isn't known.
    """
    if text is None:
        return [name for name in _CHOICES if not encoder(name, config).startswith("toy")]
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in _CHOICES]
    if unknown or not names:
        wrong = f"there is no metric {', '.join(unknown)}" if unknown else "no metric is named"
        raise UserError(f"--metrics {text!r}: {wrong}. There are: {', '.join(_CHOICES)}.")
    return [name for name in _CHOICES if name in names]


def prepare(folder: Path) -> None:
    """Make the folder for the results, free of an earlier table's figures.

    Raises:
        UserError: it can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in SCORE_FIGURES:
            for old in (folder / f"{figure.name}.png", folder / "data" / f"{figure.name}.csv"):
                old.unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out {folder}: can't write there: {error.strerror}.") from error


def arguments(parser: argparse.ArgumentParser) -> None:
    # Names of metrics are copied from here: a line break inside one would make it another.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "file",
        type=Path,
        help="CSV with right answers and predictions under any of their usual names; "
        "an error, a question and a picture's path are used where present",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for scores and figures")
    parser.add_argument(
        "--metrics", help="some of those below, with commas (default: all with real models)"
    )
    add_columns_option(parser)
    parser.epilog = "metrics:\n" + "\n".join(f"  {name}" for name in _CHOICES)


def _score_all(
    rows: pd.DataFrame, metrics: Sequence[str], config: Config, asked: bool
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Scores, signatures, and what had to be left out: models that nobody asked for by name."""
    if not any(map(neural, metrics)):
        return *score_table(rows, metrics, config), []
    from abo_vqa.core.devices import pick_device

    device = str(pick_device(config.compute.device))
    if asked:
        return *score_table(rows, metrics, config, device), []
    scored, signature = score_table(rows, [m for m in metrics if not neural(m)], config)
    notes = []
    for family in _REAL:
        own = [name for name in metrics if name.startswith(family)]
        try:
            found, said = score_table(rows, own, config, device)
        except UserError as error:
            notes.append(f"left out: {', '.join(own)}: {error}")
            continue
        scored, signature = scored.join(found), signature | said
    return scored, signature, notes


def report(summary: dict[str, Any], notes: Sequence[str], rows: pd.DataFrame, args: Any) -> None:
    """Print the numbers, and all that a reader of them has to know."""
    for note in notes:
        print(note)
    for name, found in summary["metrics"].items():
        model = f"  ({summary['encoders'][name]})" if name in summary["encoders"] else ""
        bounds = "[no interval]"
        if found["low"] is not None:
            bounds = f"[{found['low']:.4f}, {found['high']:.4f}]"
        print(f"{name:22} {found['mean']:8.4f}  {bounds}{model}")
    print(f"{summary['answered']:,} of {summary['rows']:,} rows scored → {args.out}")
    if not summary["answered"]:
        print(
            f"abo-vqa score: every row has an error (the first: {rows['error'].iloc[0]!r}), so "
            "only accuracy is known: 0. With --columns error= the errors are ignored.",
            file=sys.stderr,
        )


def command(args: argparse.Namespace) -> int:
    config = load_config()
    metrics = _chosen_metrics(args.metrics, config)
    answers = read_answer_table(args.file, args.columns)
    prepare(args.out)  # before any long work
    pin_threads(config.threads)
    if set(WORDNET_METRICS) & set(metrics):
        ensure_wordnet()  # before any long work
    rows = answers.rows
    scored, signature, missing = _score_all(rows, metrics, config, args.metrics is not None)
    print(answers.description)
    clusters = describe_clusters(rows, answers.columns.get("image_path"))
    notes = [*answers.notes, clusters, *missing]
    if args.metrics is None and any(encoder(name, config).startswith("toy") for name in _CHOICES):
        notes.append(
            "left out: BERTScore and BARTScore, for which there are only the sample's toy encoders "
            "here (scorers in the profile; or ask for them with --metrics)"
        )
    names = [str(name) for name in scored]
    summary = {
        **summarise_table(rows, scored, config),
        "signature": signature,
        "columns": dict(answers.columns),
        "encoders": {name: text for name in names if (text := encoder(name, config))},
        "notes": notes,
    }
    table = answers.table
    for name in names:
        values = np.full(len(table), np.nan)  # a row that was left out has none
        values[answers.mask] = scored[name]
        table[name] = values
    write_table(table, args.out / "scores.csv")
    write_results(summary, args.out / "summary.json", RESULT_DIGITS)
    types = summary.get("question_types", [])
    draw_score_figures(rows, scored, types, config, args.file.name, args.out)
    report(summary, notes, rows, args)
    return 0
