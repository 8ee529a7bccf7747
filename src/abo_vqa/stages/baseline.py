"""One model's answers to every row, in the study's sampling order: a fraction is a prefix."""

from __future__ import annotations

import argparse
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.json_files import write_json
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import BLIND, BLIND_FITS, TRAIN, VQA, predictions_of
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, table_columns, write_table
from abo_vqa.data.answer_sample import SAMPLE_ROWS, answer_sample
from abo_vqa.models.answering.counts import count_answers, describe_answers
from abo_vqa.models.answering.estimate import estimate_baseline
from abo_vqa.models.endpoint.spending import DRY_RUN, spending_of
from abo_vqa.models.registry import BLIND_MODEL, STUDY_MODELS, checkpoint_key, require_model


def run(config: Config, _log: Log = no_log, *, model: str) -> Summary:
    """Write reports/baselines/<model>/predictions.csv.

    Args:
        config: the settings.
        model: the model's name; "blind" for all baselines without an image.
    """
    if model == BLIND_MODEL:
        return _run_blind(config)
    columns = ["image_path", "question"]
    columns += {"answer"}.intersection(table_columns(VQA))
    table = read_table(VQA, columns=columns)
    # Only here: it loads torch, which the blind baselines don't need.
    from abo_vqa.models.answering.baseline import BaselineJob, answer_all

    job = BaselineJob.of(model, config, table)
    asked = table.loc[job.rows["row_id"].head(SAMPLE_ROWS)]
    expected = table.get("answer", ())
    del table  # its other columns take as much memory as the rows to answer
    result = answer_all(config, job)
    out = write_table(result.predictions, predictions_of(model))
    spent, cost = spending_of(model, config)
    return Summary(
        describe_answers(model, config, result.predictions, out, expected, spent),
        metrics={**count_answers(result.predictions), **result.metrics, **cost},
        params=result.record,
        datasets={"questions": VQA},
        artifacts=(out,),
        tables={"answers": answer_sample(asked, result.predictions)},
        cleanup=partial(discard, job.folder),
    )


def _run_blind(config: Config) -> Summary:
    """Write reports/baselines/blind/<variant>/predictions.csv for each blind baseline."""
    from abo_vqa.models.answering.blind import answer_blind  # loads scikit-learn

    table = read_table(VQA, columns=["image_path", "question"])
    results = answer_blind(config, table, read_table(TRAIN, columns=["question", "answer"]))
    artifacts = [
        write_table(result.predictions, predictions_of(f"blind-{variant}"))
        for variant, result in results.items()
    ]
    fits: dict[str, dict[str, bool | str]] = {
        variant: {"ended": result.converged} | ({"part": result.part} if result.part else {})
        for variant, result in results.items()
    }
    artifacts.append(write_json(fits, BLIND_FITS))
    rows = max(len(result.predictions) for result in results.values())
    unfinished = ", ".join(variant for variant, fit in fits.items() if not fit["ended"])
    parts = [
        f"blind-{variant} was fitted on {fit['part']}: its accuracy may be lower than what all "
        "would give"
        for variant, fit in fits.items()
        if "part" in fit
    ]
    return Summary(
        f"blind: {rows} rows → {BLIND}/{{{','.join(results)}}}"
        + (f"\nfits that didn't converge: {unfinished}" if unfinished else "")
        + "".join(f"\n{part}" for part in parts),
        metrics={"rows": rows},
        params={
            "fitted_on": str(TRAIN),
            "unfinished_fits": unfinished or "none",
            "partial_fits": ", ".join(v for v, fit in fits.items() if "part" in fit) or "none",
        },
        datasets={"training": TRAIN},
        artifacts=tuple(artifacts),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    names = ", ".join([*STUDY_MODELS, BLIND_MODEL])
    parser.add_argument(
        "--model", required=True, help=f"{names}, or another name under models in the profile"
    )
    parser.add_argument("--dry-run", action="store_true", help=DRY_RUN)


def command(args: argparse.Namespace) -> int:
    """Run the stage, and return the exit code.

    Args:
        args: the options.
    """
    config = load_config()
    require_model(args.model, config, [BLIND_MODEL])
    if args.dry_run:
        print(estimate_baseline(args.model, config))
        return 0
    checkpoint = None if args.model == BLIND_MODEL else checkpoint_key(args.model)
    print(execute(f"baseline@{args.model}", partial(run, model=args.model), config, checkpoint))
    return 0
