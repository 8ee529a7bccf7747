"""Stage `evaluate`: every model's answers to the same test rows → scores, intervals, tests."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa import questions
from abo_vqa.comparison import compare
from abo_vqa.config import Config
from abo_vqa.errors import UserError
from abo_vqa.io import atomic_write, read_table, write_json, write_table
from abo_vqa.metrics.normalise import norm
from abo_vqa.metrics.statistics import bootstrap, interval
from abo_vqa.metrics.table import accept_aliases, read_aliases, score_pairs, signatures
from abo_vqa.slices import calibration, counting, fractions, slices, worst, yes_no
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA, REPORTS = Path("data"), Path("reports")
BLIND = ("majority", "type", "question", "ngram")
COLUMNS = ("row_id", "prediction", "confidence", "error")
Predict = Callable[[Config, pd.DataFrame], pd.DataFrame]


def prediction_files(models: Sequence[str]) -> dict[str, Path]:
    """Model → its predictions; the stage `baseline@blind` holds one model a variant."""
    files = {}
    for model in models:
        if model == "blind":
            for name in BLIND:
                files[f"blind-{name}"] = REPORTS / "baselines" / "blind" / name / "predictions.csv"
        else:
            files[model] = REPORTS / "baselines" / model / "predictions.csv"
    return files


def read_predictions(path: Path) -> pd.DataFrame:
    """Predictions by row_id: prediction, confidence (NaN: none given), error.

    Raises:
        UserError: a column is missing, or a row is there twice.
    """
    table = read_table(path, COLUMNS)
    table["row_id"] = table["row_id"].astype(int)
    table["confidence"] = pd.to_numeric(table["confidence"].replace("", None)).astype(float)
    if table["row_id"].duplicated().any():
        twice = int(table.loc[table["row_id"].duplicated(), "row_id"].iloc[0])
        raise UserError(f"{path} has row {twice} twice. Run the stage that makes it again.")
    return table.set_index("row_id")


def describe_rows(test: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """The test rows with what slices need: types, product, what train has seen."""
    rows = test[["row_id", "image_path", "question", "answer"]].copy()
    rows["row_id"] = rows["row_id"].astype(int)
    rows["question_type"] = [questions.question_type(q) for q in rows["question"]]
    rows["question_subtype"] = [questions.question_subtype(q) for q in rows["question"]]
    normalised = [norm(answer) for answer in rows["answer"]]
    rows["answer_type"] = [questions.answer_type(answer) for answer in normalised]
    rows["answer_words"] = [str(len(answer.split())) for answer in normalised]
    products = test["product_type"] if "product_type" in test else ""
    rows["product_type"] = products
    asked = set(train["question"].str.lower())
    pairs = {(q.lower(), norm(a)) for q, a in zip(train["question"], train["answer"], strict=True)}
    rows["seen_question"] = [q.lower() in asked for q in rows["question"]]
    rows["seen_pair"] = [
        (q.lower(), a) in pairs for q, a in zip(rows["question"], normalised, strict=True)
    ]
    return rows.reset_index(drop=True)


def join(rows: pd.DataFrame, predictions: pd.DataFrame, model: str) -> pd.DataFrame:
    """The test rows with a model's predictions; a row without one failed, and says so."""
    found = predictions.reindex(rows["row_id"])
    table = rows.copy()
    missing = found["prediction"].isna().to_numpy(dtype=bool)
    if missing.all():
        raise UserError(
            f"{model} has no prediction for any test row. Run the baselines with "
            "baselines.fraction: 1.0, or a fraction large enough to reach some."
        )
    table["prediction"] = found["prediction"].fillna("").to_numpy()
    table["confidence"] = found["confidence"].to_numpy(dtype=float)
    error = found["error"].fillna("").to_numpy(dtype=object, copy=True)
    error[missing] = "not predicted: outside baselines.fraction"
    table["error"] = error
    return table


def score_models(
    tables: Mapping[str, pd.DataFrame], config: Config
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Add a column a metric; distinct (prediction, reference) pairs are scored once for all."""
    answered = {model: table[table["error"] == ""] for model, table in tables.items()}
    pairs = [
        pair
        for table in answered.values()
        for pair in zip(table["prediction"], table["answer"], strict=True)
    ]
    references = sorted({answer for table in tables.values() for answer in table["answer"]})
    values, made = score_pairs(pairs, references, config.scorers)
    aliases = read_aliases(config.evaluate.aliases)
    scored = {}
    for model, table in tables.items():
        table = table.copy()
        said = list(zip(table["prediction"], table["answer"], strict=True))
        failed = (table["error"] != "").to_numpy(dtype=bool)
        for metric, found in values.items():
            # A failed row has no score; only accuracy counts it, as wrong.
            column = [np.nan if bad else found[p] for p, bad in zip(said, failed, strict=True)]
            table[metric] = np.array(column, dtype=float)
        table["accuracy"] = table["exact_match"].fillna(0.0)
        accepted = [
            0.0 if bad else accept_aliases(*pair, aliases)
            for pair, bad in zip(said, failed, strict=True)
        ]
        table["alias_accuracy"] = np.array(accepted)
        scored[model] = table
    return scored, {**signatures(config.evaluate.aliases), **made}


def metric_columns(table: pd.DataFrame) -> list[str]:
    """The metrics among a score table's columns, headline first."""
    listed = ["accuracy", "alias_accuracy"]
    start = list(table.columns).index("error") + 1
    return listed + [name for name in table.columns[start:] if name not in listed]


def summarise(scored: Mapping[str, pd.DataFrame], blind: str) -> dict[str, dict[str, float]]:
    """metrics.json: means over the test rows, the headline first; every value is a number."""
    accuracy = {model: float(table["accuracy"].mean()) for model, table in scored.items()}
    found = {}
    for model, table in scored.items():
        means = {name: float(table[name].mean()) for name in metric_columns(table)}
        found[model] = {
            "accuracy": means.pop("accuracy"),
            "gain_over_blind": accuracy[model] - accuracy[blind],
            **means,
            "coverage": float((table["error"] == "").mean()),
            "n": len(table),
        }
    return found


def intervals(
    scored: Mapping[str, pd.DataFrame], clusters: NDArray[np.int64], config: Config
) -> dict[str, dict[str, list[float]]]:
    """Bootstrap intervals of every model's every metric, over images."""
    names = metric_columns(next(iter(scored.values())))
    values = np.column_stack([table[names].to_numpy(dtype=float) for table in scored.values()])
    means = bootstrap(values, clusters, config.evaluate.resamples, config.seed)
    bounds = interval(means, config.evaluate.confidence).reshape(len(scored), len(names), 2)
    return {
        model: {name: row.tolist() for name, row in zip(names, rows, strict=True)}
        for model, rows in zip(scored, bounds, strict=True)
    }


def evaluate(config: Config, predict: Predict) -> tuple[dict[str, Any], dict[str, Any]]:
    """Score all models; returns metrics.json's and evaluation.json's contents."""
    test = read_table(DATA / "test.csv", ("row_id", "image_path", "question", "answer"))
    train = read_table(DATA / "train.csv", ("question", "answer"))
    rows = describe_rows(test, train)
    write_table(predict(config, test), REPORTS / "finetuned" / "predictions.csv")
    files = prediction_files(config.baselines.models)
    files["finetuned"] = REPORTS / "finetuned" / "predictions.csv"
    everything = {model: read_predictions(path) for model, path in files.items()}
    tables = {model: join(rows, found, model) for model, found in everything.items()}
    scored, signature = score_models(tables, config)
    for model, table in scored.items():
        with atomic_write(REPORTS / "scores" / f"{model}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    blind = max(
        (model for model in scored if model.startswith("blind-")),
        key=lambda model: float(scored[model]["accuracy"].mean()),
        default=next(iter(scored)),
    )
    clusters = pd.factorize(rows["image_path"])[0].astype(np.int64)
    vqa = read_table(DATA / "vqa.csv", ("question", "answer"))
    pairs, smallest = compare(scored, clusters, config)
    cut = {m: slices(t, clusters, config) for m, t in scored.items()}
    evaluation = {
        "signature": signature,
        "best_blind": blind,
        "intervals": intervals(scored, clusters, config),
        "pairs": pairs,
        "minimum_detectable_difference": smallest,
        "slices": cut,
        "worst_slices": worst(cut["finetuned"], scored["finetuned"]),
        "yes_no": {m: yes_no(t) for m, t in scored.items()},
        "counting": {m: counting(t) for m, t in scored.items()},
        "calibration": {m: c for m, t in scored.items() if (c := calibration(t))},
        "fractions": {
            m: fractions(everything[m], vqa, config.baselines.fraction)
            for m in scored
            if m != "finetuned" and not m.startswith("blind-")
        },
    }
    return summarise(scored, blind), evaluation


def run(config: Config, log: Log = no_log) -> Summary:
    """Write reports/metrics.json, evaluation.json, scores/*.parquet, finetuned/predictions.csv."""
    from abo_vqa.metrics.wordnet import ensure_wordnet
    from abo_vqa.predict import predict_finetuned

    ensure_wordnet()  # before any long work
    shutil.rmtree(REPORTS / "scores", ignore_errors=True)
    metrics, evaluation = evaluate(config, predict_finetuned)
    write_json(metrics, REPORTS / "metrics.json")
    write_json(evaluation, REPORTS / "evaluation.json")
    ranked = sorted(metrics, key=lambda model: -metrics[model]["accuracy"])
    lines = [
        f"  {model:15} {metrics[model]['accuracy']:.3f}  {metrics[model]['gain_over_blind']:+.3f}"
        for model in ranked
    ]
    numbers = {f"{m}/{name}": v for m, values in metrics.items() for name, v in values.items()}
    return Summary(
        "\n".join(["model            accuracy  over blind", *lines]),
        metrics=numbers,
        params={f"signature.{name}": text for name, text in evaluation["signature"].items()},
        datasets={"testing": DATA / "test.csv"},
        artifacts=(REPORTS / "metrics.json", REPORTS / "evaluation.json", REPORTS / "scores"),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """No ad-hoc options: `abo-vqa score` scores any table."""


def command(args: argparse.Namespace) -> int:
    return execute("evaluate", run)
