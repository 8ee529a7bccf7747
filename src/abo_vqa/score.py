"""`abo-vqa score`: any table of answers and predictions → a score a row and metric, intervals."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.columns import add_option
from abo_vqa.config import Config, load_config
from abo_vqa.errors import UserError
from abo_vqa.given_answers import read_answers
from abo_vqa.io import write_json, write_table
from abo_vqa.metrics.statistics import bootstrap, interval, wilson
from abo_vqa.metrics.table import METRICS, WORDNET, score_pairs
from abo_vqa.picture_paths import identities
from abo_vqa.stage import pin_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIGURES = ("metric-correlation", "metric-distributions", "confusions", "question-types")
CHOICES = ("accuracy", *(name for name in METRICS if name != "bertscore_f1_rescaled"))
TOY = Path("models/sample")  # the embedded sample's checkpoints: they show that the code works
REAL = {"bertscore": "roberta-large", "bartscore": "bart-large-cnn"}
LONGEST_NAME = 48  # characters of a file's name in a figure's corner


def score_table(
    rows: pd.DataFrame, metrics: Sequence[str], config: Config, device: str = "cpu"
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A column a metric [n], in the rows' order, and the metrics' signatures.

    A row with a non-empty `error` has no scores.
    """
    failed = np.asarray(rows["error"] != "", dtype=np.bool_)
    pairs = list(zip(rows["prediction"], rows["answer"], strict=True))
    answered = [pair for pair, bad in zip(pairs, failed, strict=True) if not bad]
    wanted = dict.fromkeys("exact_match" if name == "accuracy" else name for name in metrics)
    scores = score_pairs(answered, list(wanted), scorers=config.scorers, device=device)
    columns, signature = scores.rows(pairs, failed), dict(scores.signature)
    if "accuracy" in metrics:
        columns["accuracy"] = np.nan_to_num(columns["exact_match"])
        signature["accuracy"] = "equal after normalisation, empty = 0; a failed row is wrong"
    table = pd.DataFrame({name: columns[name] for name in metrics})
    return table, {name: signature[name] for name in metrics}


def clusters_of(rows: pd.DataFrame) -> NDArray[np.int64]:
    """What is resampled: pictures where the table names them, else rows.

    Two spellings of one picture's path are one cluster; a row without a picture is its own.
    """
    if "image_path" not in rows:
        return np.arange(len(rows))
    keys = [name or number for number, name in enumerate(identities(rows["image_path"])[0])]
    return pd.factorize(np.array(keys, dtype=object))[0].astype(np.int64)


def summarise(rows: pd.DataFrame, scored: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Means over answered rows with their intervals; a metric nobody answered has none."""
    values = scored.to_numpy(dtype=float)
    settings = config.evaluate
    clusters = clusters_of(rows)
    means = bootstrap(values, clusters, settings.resamples, config.seed)
    found = {}
    for name, column, bounds in zip(
        scored, values.T, interval(means, settings.confidence).tolist(), strict=True
    ):
        known = ~np.isnan(column)
        if known.any():
            low, high = sure(column[known], clusters[known], bounds, settings.confidence)
            found[str(name)] = {"mean": float(column[known].mean()), "low": low, "high": high}
    answered = int((rows["error"] == "").sum())
    summary: dict[str, Any] = {"rows": len(rows), "answered": answered}
    headline = next((name for name in ("accuracy", "exact_match") if name in scored), None)
    if headline:
        summary["accuracy"] = float(scored[headline].fillna(0.0).mean())
    resampled = "images" if "image_path" in rows else "rows"
    return {**summary, "resampled": resampled, "metrics": found}


def sure(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    bounds: tuple[float, float],
    confidence: float,
) -> tuple[float | None, float | None]:
    """The interval of a metric's mean, where resampling can tell it; None, None where nothing can.

    Resampled values that are all 1, or all 0, would claim certainty: shares of so few pictures get
    Wilson's interval. Of a single picture, or of equal values that are no shares, there is none.

    Args:
        values, clusters: [n], the rows that have a value. bounds: the bootstrap's.
    """
    pictures = len(np.unique(clusters))
    if pictures > 1 and np.ptp(values) > 0:
        return bounds
    if pictures > 1 and values[0] in (0.0, 1.0):
        return wilson(values[0] * pictures, pictures, confidence)
    return None, None


def draw(
    rows: pd.DataFrame, scored: pd.DataFrame, config: Config, name: str, folder: Path
) -> list[Path]:
    """The report's figures that a table of its own can have; PNGs and the numbers drawn."""
    from abo_vqa.metrics.normalise import same_answer
    from abo_vqa.questions import question_type
    from abo_vqa.reporting.figures import answers, metrics, write
    from abo_vqa.reporting.inputs import Results
    from abo_vqa.reporting.style import headline, styled
    from abo_vqa.slices import slices

    answered = np.asarray(rows["error"] == "", dtype=np.bool_)
    if not answered.any():
        return []
    right = [same_answer(p, a) for p, a in zip(rows["prediction"], rows["answer"], strict=True)]
    table = rows.join(scored.drop(columns="accuracy", errors="ignore"))
    table["accuracy"] = np.where(answered, right, 0.0)
    chosen = [metrics.correlation, metrics.distributions, answers.confusions]
    cut: dict[str, Any] = {}
    if "question" in table:
        table["question_type"] = [question_type(question) for question in table["question"]]
        cut = dict(slices({name: table}, clusters_of(rows), config, ("question_type",)))
        chosen.append(answers.question_types)
    means = {
        str(metric): float(table[metric].mean()) for metric in dict.fromkeys(("accuracy", *scored))
    }
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
                write(drawing, folder)
                drawn.append(folder / f"{drawing.name}.png")
    return drawn


def neural(metric: str) -> bool:
    """Whether a metric needs a model."""
    return metric.startswith(tuple(REAL))


def encoder(metric: str, config: Config) -> str:
    """The model behind a neural metric, in words for the terminal; "" for the others."""
    if not neural(metric):
        return ""
    family = "bertscore" if metric.startswith("bertscore") else "bartscore"
    path = str(getattr(config.scorers, family).path)
    return f"toy encoder {path}, not {REAL[family]}" if toy(path) else path


def toy(path: str) -> bool:
    """Whether a model is one of the embedded sample's."""
    return Path(path).absolute().is_relative_to(TOY.absolute())


def chosen_metrics(text: str | None, config: Config) -> list[str]:
    """The metrics named in "a,b"; for None all whose models can be taken seriously.

    Raises:
        UserError: one isn't known.
    """
    if text is None:
        return [name for name in CHOICES if not encoder(name, config).startswith("toy")]
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
    add_option(parser)
    parser.epilog = "metrics:\n" + "\n".join(f"  {name}" for name in CHOICES)


def score_all(
    rows: pd.DataFrame, metrics: Sequence[str], config: Config, asked: bool
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Scores, signatures, and what had to be left out: models that nobody asked for by name."""
    if not any(map(neural, metrics)):
        return *score_table(rows, metrics, config), []
    from abo_vqa.models.devices import pick_device

    device = str(pick_device(config.compute.device))
    if asked:
        return *score_table(rows, metrics, config, device), []
    scored, signature = score_table(rows, [m for m in metrics if not neural(m)], config)
    notes = []
    for family in REAL:
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


def resampled(rows: pd.DataFrame, taken: str | None) -> str:
    """What the intervals resample, in words."""
    if "image_path" not in rows:
        return "resampled: rows (no picture column found; name one with --columns image_path=…)"
    names = identities(rows["image_path"])[0]
    unnamed, groups = names.count(""), len({*names} - {""})
    noun = "picture" if groups == 1 else "pictures"
    alone = f", and {unnamed:,} row(s) that name none, each by itself" if unnamed else ""
    return f"resampled: {groups:,} {noun} (column {taken}){alone}"


def command(args: argparse.Namespace) -> int:
    config = load_config()
    metrics = chosen_metrics(args.metrics, config)
    given = read_answers(args.file, args.columns)
    prepare(args.out)  # before any long work
    pin_threads(config.threads)
    if set(WORDNET) & set(metrics):
        from abo_vqa.metrics.wordnet import ensure_wordnet

        ensure_wordnet()  # before any long work
    rows = given.rows
    scored, signature, missing = score_all(rows, metrics, config, args.metrics is not None)
    print(given.described)
    notes = [*given.notes, resampled(rows, given.taken.get("image_path")), *missing]
    if args.metrics is None and any(encoder(name, config).startswith("toy") for name in CHOICES):
        notes.append(
            "left out: BERTScore and BARTScore, for which there are only the sample's toy encoders "
            "here (scorers in the profile; or ask for them with --metrics)"
        )
    names = [str(name) for name in scored]
    summary = {
        **summarise(rows, scored, config),
        "signature": signature,
        "columns": dict(given.taken),
        "encoders": {name: text for name in names if (text := encoder(name, config))},
        "notes": notes,
    }
    table = given.table
    for name in names:
        values = np.full(len(table), np.nan)  # a row that was left out has none
        values[given.kept] = scored[name]
        table[name] = values
    write_table(table, args.out / "scores.csv")
    write_json(summary, args.out / "summary.json")
    name = args.file.name
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    draw(rows, scored, config, short, args.out)
    report(summary, notes, rows, args)
    return 0
