"""Stage `evaluate`: every model's answers to the same test rows → scores, intervals, tests."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa import questions
from abo_vqa.comparison import compare
from abo_vqa.config import Config
from abo_vqa.errors import UserError
from abo_vqa.io import atomic_write, read_json, read_table, write_results, write_table
from abo_vqa.locks import discard
from abo_vqa.metrics.normalise import norm
from abo_vqa.metrics.statistics import bootstrap, interval
from abo_vqa.metrics.table import BERTSCORE, METRICS, Scores, score_pairs
from abo_vqa.slices import calibration, counting, fractions, slices, study_variants, worst, yes_no
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA, REPORTS = Path("data"), Path("reports")
BLIND = ("majority", "type", "question", "ngram")
COLUMNS = ("row_id", "prediction", "confidence", "error")
# A network's outputs differ in the seventh digit between processors; four decimals hide that.
DIGITS = dict.fromkeys((*BERTSCORE, "bartscore", "confidence", "expected_calibration_error"), ".4f")
OVER_ALL_ROWS = ("exact_match", "f1", "bertscore_f1")  # what the study prints for its samples
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


def unfinished_fits(models: Sequence[str]) -> list[str]:
    """Blind models whose fit stopped before its end: they may be worth more than they score."""
    file = REPORTS / "baselines" / "blind" / "fits.json"
    if "blind" not in models or not file.is_file():
        return []
    return [f"blind-{name}" for name, found in read_json(file).items() if not found["ended"]]


def read_predictions(path: Path, rows: int) -> pd.DataFrame:
    """Predictions by row_id: prediction, confidence (NaN: none given), error.

    Raises:
        UserError: a column is missing, a row is there twice, or isn't one of the `rows` rows.
    """
    table = read_table(path, COLUMNS)
    again = "Run the stage that makes it again."
    try:
        table["row_id"] = table["row_id"].astype(int)
        table["confidence"] = table["confidence"].replace("", "nan").astype(float)
    except ValueError as error:
        raise UserError(f"{path}: row_id and confidence are numbers: {error}. {again}") from error
    twice = table.loc[table["row_id"].duplicated(), "row_id"]
    if len(twice):
        raise UserError(f"{path} has row {twice.iloc[0]} twice. {again}")
    foreign = table.loc[~table["row_id"].between(0, rows - 1), "row_id"]
    if len(foreign):
        raise UserError(
            f"{path} answers row {foreign.iloc[0]}, but {DATA / 'vqa.csv'} has rows 0 to "
            f"{rows - 1}. {again}"
        )
    return table.set_index("row_id")


def describe_rows(test: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """The test rows with what slices need: types, product, what train has seen and how often."""
    rows = test[["row_id", "image_path", "question", "answer"]].reset_index(drop=True)
    rows["row_id"] = rows["row_id"].astype(int)
    rows["question_type"] = [questions.question_type(q) for q in rows["question"]]
    rows["question_subtype"] = [questions.question_subtype(q) for q in rows["question"]]
    answers = [norm(answer) for answer in rows["answer"]]
    rows["answer_type"] = [questions.answer_type(answer) for answer in answers]
    rows["answer_words"] = [str(len(answer.split())) for answer in answers]
    known = Counter(norm(answer) for answer in train["answer"])
    rows["answer_frequency"] = [frequency(known[answer]) for answer in answers]
    rows["image_rows"] = rows.groupby("image_path")["row_id"].transform("size")
    rows["product_type"] = test["product_type"].to_numpy() if "product_type" in test else ""
    asked = {question.lower() for question in train["question"]}
    rows["seen_question"] = [q.lower() in asked for q in rows["question"]]
    pairs = {(q.lower(), norm(a)) for q, a in zip(train["question"], train["answer"], strict=True)}
    rows["seen_pair"] = [
        (q.lower(), a) in pairs for q, a in zip(rows["question"], answers, strict=True)
    ]
    return rows


def frequency(n: int) -> str:
    """How often train has an answer, in powers of ten: "0", "1-9", "10-99", …"""
    if n == 0:
        return "0"
    power = len(str(n)) - 1
    return f"{10**power}-{10 ** (power + 1) - 1}"


def join(rows: pd.DataFrame, predictions: pd.DataFrame, model: str) -> pd.DataFrame:
    """The test rows with a model's predictions; a row without one failed, and says so.

    Raises:
        UserError: no test row has a prediction.
    """
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


def answered_pairs(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """(prediction, answer) of every row that didn't fail."""
    answered = (table[table["error"] == ""] for table in tables.values())
    return [p for t in answered for p in zip(t["prediction"], t["answer"], strict=True)]


def add_scores(table: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """The table with accuracy and a column a metric.

    A failed row has no score in any metric; only the accuracies count it, as wrong.
    """
    failed = np.asarray(table["error"] != "", dtype=np.bool_)
    pairs = list(zip(table["prediction"], table["answer"], strict=True))
    columns = scores.rows(pairs, failed)
    columns["accuracy"] = np.nan_to_num(columns["exact_match"])
    if "alias_accuracy" in columns:
        columns["alias_accuracy"] = np.nan_to_num(columns["alias_accuracy"])
    return table.assign(**columns)


def score_test_rows(
    tables: Mapping[str, pd.DataFrame], config: Config, device: str
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Every model's table with a column a metric, and the metrics' signatures.

    A pair that several models have is scored once.
    """
    references = sorted({answer for table in tables.values() for answer in table["answer"]})
    scores = score_pairs(
        answered_pairs(tables),
        ("alias_accuracy", *METRICS),
        references=references,
        scorers=config.scorers,
        alias_table=config.evaluate.aliases,
        device=device,
    )
    signature = {
        "accuracy": "exact match after normalisation; a failed row counts as wrong",
        **scores.signature,
        "intervals": f"percentile bootstrap over images, {config.evaluate.resamples} resamples, "
        f"{config.evaluate.confidence:.0%}, seed {config.seed}",
    }
    return {model: add_scores(table, scores) for model, table in tables.items()}, signature


def score_all_rows(
    predictions: Mapping[str, pd.DataFrame], vqa: pd.DataFrame, config: Config, device: str
) -> dict[str, list[dict[str, float]]]:
    """The study's fractions of all rows, for each model that has answered them."""
    tables = {
        model: found.assign(answer=vqa["answer"].to_numpy()[found.index])
        for model, found in predictions.items()
    }
    pairs = answered_pairs(tables)
    scores = score_pairs(pairs, OVER_ALL_ROWS, scorers=config.scorers, device=device)
    return {
        model: fractions(add_scores(table, scores), len(vqa), OVER_ALL_ROWS[1:])
        for model, table in tables.items()
    }


def metric_columns(table: pd.DataFrame) -> list[str]:
    """The metrics among a score table's columns, the headline first."""
    start = list(table.columns).index("error") + 1
    rest = list(table.columns[start:])
    headline = [name for name in ("accuracy", "alias_accuracy") if name in rest]
    return headline + [name for name in rest if name not in headline]


def summarise(scored: Mapping[str, pd.DataFrame], blind: str) -> dict[str, dict[str, float]]:
    """metrics.json: means over the test rows, the headline first; every value is a number."""
    best_blind = float(scored[blind]["accuracy"].mean())
    found = {}
    for model, table in scored.items():
        # A model whose every row failed has an accuracy, 0, and no other score.
        names = [name for name in metric_columns(table) if table[name].notna().any()]
        means = {name: float(table[name].mean()) for name in names}
        accuracy = means.pop("accuracy")
        found[model] = {
            "accuracy": accuracy,
            "gain_over_blind": accuracy - best_blind,
            **means,
            "coverage": float((table["error"] == "").mean()),
            "n": len(table),
        }
    return found


def intervals(
    scored: Mapping[str, pd.DataFrame], clusters: NDArray[np.int64], config: Config
) -> dict[str, dict[str, list[float]]]:
    """model → metric → [low, high]: bootstrapped over images, the same resamples for all."""
    names = metric_columns(next(iter(scored.values())))
    values = np.column_stack([table[names].to_numpy(dtype=float) for table in scored.values()])
    means = bootstrap(values, clusters, config.evaluate.resamples, config.seed)
    bounds = interval(means, config.evaluate.confidence).reshape(len(scored), len(names), 2)
    return {
        model: {
            name: row.tolist()
            for name, row in zip(names, rows, strict=True)
            if not np.isnan(row).any()
        }
        for model, rows in zip(scored, bounds, strict=True)
    }


def best_blind(scored: Mapping[str, pd.DataFrame]) -> str:
    """The blind model with the highest accuracy on the test rows (the hardest to beat).

    Raises:
        UserError: there is none, hence nothing to gain over.
    """
    blind = [model for model in scored if model.startswith("blind-")]
    if not blind:
        raise UserError("no blind baseline to compare with: add blind to baselines.models.")
    return max(blind, key=lambda model: float(scored[model]["accuracy"].mean()))


def read_test() -> pd.DataFrame:
    """The rows that every model is measured on."""
    return read_table(DATA / "test.csv", ("row_id", "image_path", "question", "answer"))


def evaluate(
    config: Config, predict: Predict, device: str = "cpu"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Score all models; returns metrics.json's and evaluation.json's contents.

    Args:
        predict: makes the fine-tuned model's predictions of the test rows.
    """
    vqa = read_table(DATA / "vqa.csv", ("question", "answer"))
    test = read_test()
    train = read_table(DATA / "train.csv", ("question", "answer"))
    # First what can be missing, then the work.
    files = prediction_files(config.baselines.models)
    predictions = {model: read_predictions(path, len(vqa)) for model, path in files.items()}
    rows = describe_rows(test, train)
    tables = {model: join(rows, found, model) for model, found in predictions.items()}
    own = REPORTS / "finetuned" / "predictions.csv"
    write_table(predict(config, test), own)
    tables["finetuned"] = join(rows, read_predictions(own, len(vqa)), "finetuned")
    scored, signature = score_test_rows(tables, config, device)
    for model, table in scored.items():
        with atomic_write(REPORTS / "scores" / f"{model}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    blind = best_blind(scored)
    clusters = pd.factorize(rows["image_path"])[0].astype(np.int64)
    pairs, smallest = compare(scored, clusters, config)
    cut = slices(scored, clusters, config)
    asked = {m: found for m, found in predictions.items() if not m.startswith("blind-")}
    evaluation = {
        "signature": signature,
        "best_blind": blind,
        "unfinished_fits": unfinished_fits(config.baselines.models),
        "intervals": intervals(scored, clusters, config),
        "pairs": pairs,
        "minimum_detectable_difference": smallest,
        "slices": cut,
        "worst_slices": worst(cut["finetuned"], scored["finetuned"]),
        "yes_no": {model: yes_no(table) for model, table in scored.items()},
        "counting": {model: counting(table) for model, table in scored.items()},
        "calibration": {m: found for m, t in scored.items() if (found := calibration(t))},
        "fractions": score_all_rows(asked, vqa, config, device),
        "study": {model: study_variants(table) for model, table in scored.items()},
    }
    return summarise(scored, blind), evaluation


def headline(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What whole experiments are compared by: the fine-tuned model, and every model's accuracy."""
    own = metrics["finetuned"]
    chosen = {name: own[name] for name in ("accuracy", "gain_over_blind")}
    return chosen | {f"{model}/accuracy": found["accuracy"] for model, found in metrics.items()}


def results(metrics: Mapping[str, Mapping[str, float]], blind: str) -> dict[str, dict[str, float]]:
    """Accuracies by the folder that was tested; of the blind models' only one, the best one's."""
    folders = {model: REPORTS / "baselines" / model for model in metrics}
    folders |= {"finetuned": Path("models/adapter"), blind: REPORTS / "baselines" / "blind"}
    return {
        folders[model].as_posix(): {
            name: found[name] for name in ("accuracy", "gain_over_blind", "coverage")
        }
        for model, found in metrics.items()
        if model == blind or not model.startswith("blind-")
    }


def run(config: Config, log: Log = no_log) -> Summary:
    """Write reports/metrics.json, evaluation.json, scores/*.parquet, finetuned/predictions.csv."""
    from abo_vqa.metrics.wordnet import ensure_wordnet
    from abo_vqa.models.devices import pick_device
    from abo_vqa.predict import finetuned_folder, predict_finetuned

    ensure_wordnet()  # before any long work
    shutil.rmtree(REPORTS / "scores", ignore_errors=True)
    device = str(pick_device(config.compute.device))
    metrics, evaluation = evaluate(config, predict_finetuned, device)
    write_results(metrics, REPORTS / "metrics.json", DIGITS)
    write_results(evaluation, REPORTS / "evaluation.json", DIGITS)
    ranked = sorted(metrics, key=lambda model: -metrics[model]["accuracy"])
    lines = [
        f"  {model:15} {metrics[model]['accuracy']:.3f}  {metrics[model]['gain_over_blind']:+.3f}"
        for model in ranked
    ]
    numbers = {f"{m}/{name}": v for m, values in metrics.items() for name, v in values.items()}
    return Summary(
        "\n".join(["model            accuracy  over blind", *lines]),
        metrics=numbers,
        headline=headline(metrics),
        results=results(metrics, evaluation["best_blind"]),
        datasets={"testing": DATA / "test.csv"},
        artifacts=(REPORTS / "metrics.json", REPORTS / "evaluation.json", REPORTS / "scores"),
        cleanup=lambda: discard(finetuned_folder(config, read_test())),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """No ad-hoc options: `abo-vqa score` scores any table."""


def command(args: argparse.Namespace) -> int:
    return execute("evaluate", run)
