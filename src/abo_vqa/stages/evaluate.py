"""Stage `evaluate`: every model's answers to the same test rows → scores, intervals, tests."""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.engine.opening import model_needs, open_engine
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.json_files import read_json, write_results
from abo_vqa.core.paths import (
    BLIND_FITS,
    EVALUATION,
    GENERATION,
    METRICS,
    SCORES,
    TEST,
    TRAIN,
    TRAINING,
    VERIFICATION,
    VQA,
    predictions_of,
    scores_of,
)
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, table_columns
from abo_vqa.evaluation.ceiling import review_findings
from abo_vqa.evaluation.pair_scores import RESULT_DIGITS
from abo_vqa.evaluation.predictions import answering_models, fit_limits, read_predictions
from abo_vqa.evaluation.results import Tables, answers_all_rows, evaluate
from abo_vqa.evaluation.run_tables import describe_result, result_tables
from abo_vqa.evaluation.summary import headline_metrics, metrics_by_folder
from abo_vqa.evaluation.wordnet import ensure_wordnet

_TEST_COLUMNS = ("row_id", "image_path", "question", "answer")


def _read_tables(config: Config) -> Tables:
    """Read everything that is evaluated, before any long work.

    Raises:
        UserError: A table is missing or doesn't fit the others.
    """
    rows = len(vqa := read_table(VQA, ("question", "answer"), columns=("answer",)))
    models = answering_models(config.baselines.models, ranked=config.ranking.finetuned)
    with_fits = "blind" in config.baselines.models and BLIND_FITS.is_file()
    optional = [name for name in ("product_type", "reviewed") if name in table_columns(TEST)]
    test = read_table(TEST, columns=[*_TEST_COLUMNS, *optional])
    # Of millions of answers, only those to the test rows take memory.
    tested = np.asarray(test["row_id"].astype(int), dtype=np.int64)
    only = {model: None if answers_all_rows(model) else tested for model in models}
    return Tables(
        vqa=vqa,
        train=read_table(TRAIN, columns=("question", "answer")),
        test=test,
        predictions={m: read_predictions(predictions_of(m), rows, only[m]) for m in models},
        **fit_limits(read_json(BLIND_FITS) if with_fits else {}),
        training=read_json(TRAINING),
        reviews=review_findings(read_json(VERIFICATION), read_json(GENERATION)),
    )


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write reports/metrics.json, reports/evaluation.json and reports/scores/*.parquet.

    Args:
        config: the settings.
    """
    ensure_wordnet()  # before any long work
    tables = _read_tables(config)
    with open_engine(config) as engine:
        deal = partial(engine.map, needs=model_needs(config))
        evaluation = evaluate(tables, config, config.compute.device, run=deal)
    with atomic_folder(SCORES) as folder:
        for model, table in evaluation.scored.items():
            # pandas' metadata names the types in memory; the bytes shouldn't follow read_table's.
            table = table.astype(dict.fromkeys(("image_path", "question", "answer"), object))
            table.to_parquet(folder / scores_of(model).name, index=False)
    metrics = evaluation.metrics
    write_results(metrics, METRICS, RESULT_DIGITS)
    write_results(evaluation.details, EVALUATION, RESULT_DIGITS)
    lines = [
        f"  {model:16} {metrics[model]['accuracy']:.3f}  {metrics[model]['gain_over_blind']:+.3f}"
        for model in sorted(metrics, key=lambda model: -metrics[model]["accuracy"])
    ]
    numbers = {f"{m}/{name}": v for m, values in metrics.items() for name, v in values.items()}
    if ceiling := evaluation.details.get("ceiling"):
        lines.append(f"  {'at most about':16} {ceiling['accuracy']:.3f}  can be right")
        numbers["ceiling/accuracy"] = ceiling["accuracy"]
    return Summary(
        "\n".join(["model             accuracy  over blind", *lines]),
        outcome=describe_result(metrics),
        metrics=numbers,
        headline=headline_metrics(metrics),
        tables=result_tables(evaluation),
        results=metrics_by_folder(metrics, evaluation.best_blind),
        datasets={"testing": TEST},
        artifacts=(METRICS, EVALUATION, SCORES),
    )


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("evaluate", run, load_config()))
    return 0
