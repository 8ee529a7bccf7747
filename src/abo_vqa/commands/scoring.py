"""The work of `abo-vqa score`, whose modules take seconds to import."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.commands.known_ceiling import known_ceiling
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_results
from abo_vqa.core.stage import pin_threads
from abo_vqa.core.tables import write_table
from abo_vqa.evaluation.answer_table import read_answer_table
from abo_vqa.evaluation.clusters import describe_clusters
from abo_vqa.evaluation.metric_choice import (
    TOYS_LEFT_OUT,
    choose_metrics,
    score_metrics,
    scorer_name,
    toy_metrics,
)
from abo_vqa.evaluation.pair_scores import RESULT_DIGITS, WORDNET_METRICS
from abo_vqa.evaluation.table_scores import summarise_table
from abo_vqa.evaluation.wordnet import ensure_wordnet
from abo_vqa.reporting.ceiling import ceiling_sentence
from abo_vqa.reporting.score_figures import SCORE_FIGURES, draw_score_figures


def score(args: argparse.Namespace) -> int:
    """Score the table, write scores and figures, print a summary.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    config = load_config()
    metrics = choose_metrics(args.metrics, config)
    answers = read_answer_table(args.file, args.columns)
    _prepare(args.out)  # before any long work, as is the next
    pin_threads(config.threads)
    if set(WORDNET_METRICS) & set(metrics):
        ensure_wordnet()
    required = args.metrics is not None
    rows = answers.rows
    scored, signature, missing = score_metrics(rows, metrics, config, required=required)
    print(answers.description)
    clusters = describe_clusters(rows, answers.columns.get("image_path"))
    notes = [*answers.notes, clusters, *missing]
    if not required and toy_metrics(config):
        notes.append(TOYS_LEFT_OUT)
    ceiling = known_ceiling(rows)
    if ceiling:
        notes.append(ceiling_sentence(ceiling))
    names = [str(name) for name in scored]
    summary = {
        **summarise_table(rows, scored, config),
        "signature": signature,
        "columns": dict(answers.columns),
        "encoders": {name: text for name in names if (text := scorer_name(name, config))},
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
    draw_score_figures(rows, scored, types, config, args.file.name, args.out, ceiling)
    _print_summary(summary, notes, rows, args.out)
    return 0


def _prepare(folder: Path) -> None:
    """Make the folder for the results, free of an earlier table's figures.

    Raises:
        UserError: It can't be made or written to.
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


def _print_summary(
    summary: dict[str, Any], notes: Sequence[str], rows: pd.DataFrame, out: Path
) -> None:
    """Print the numbers, and all that a reader of them has to know."""
    for note in notes:
        print(note)
    for name, values in summary["metrics"].items():
        model = f"  ({summary['encoders'][name]})" if name in summary["encoders"] else ""
        bounds = "[no interval]"
        if values["low"] is not None:
            bounds = f"[{values['low']:.4f}, {values['high']:.4f}]"
        print(f"{name:22} {values['mean']:8.4f}  {bounds}{model}")
    print(f"{summary['answered']:,} of {summary['rows']:,} rows scored → {out}")
    if not summary["answered"]:
        print(
            f"abo-vqa score: every row has an error (the first: {rows['error'].iloc[0]!r}), so "
            "only accuracy is known: 0. With --columns error= the errors are ignored.",
            file=sys.stderr,
        )
