"""The work of `abo-vqa benchmark`, whose modules take seconds to import."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.devices import pick_device
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.json_files import write_json, write_results
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import (
    EVALUATION,
    FINETUNED_MODEL,
    FINETUNED_MODELS,
    FINETUNED_RANKED,
    METRICS,
    REPORT,
    SCORES,
    TRAIN,
)
from abo_vqa.core.system_errors import nearest_existing
from abo_vqa.core.tables import write_table
from abo_vqa.data.audit import VQA_COLUMNS
from abo_vqa.data.question_table import QuestionTable
from abo_vqa.data.train_rows import CROSS_FIT, TrainRows
from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.metric_choice import (
    TOYS_LEFT_OUT,
    choose_metrics,
    evaluation_metrics,
    toy_metrics,
)
from abo_vqa.evaluation.pair_scores import RESULT_DIGITS
from abo_vqa.evaluation.predictions import read_predictions
from abo_vqa.evaluation.results import Evaluation, Tables, evaluate
from abo_vqa.evaluation.wordnet import ensure_wordnet
from abo_vqa.models.answering.benchmark import (
    BenchmarkAnswers,
    answer_with_blind,
    answer_with_models,
)
from abo_vqa.models.registry import BLIND_MODEL, require_model
from abo_vqa.reporting.inputs import ExternalTable, external_results
from abo_vqa.reporting.results_table import results_table
from abo_vqa.reporting.writing import write_report

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

_MARKER = "benchmark.json"  # in a folder that this command may replace
_MODEL_MISSING = 1  # exit code


def benchmark(args: argparse.Namespace, config: Config) -> int:
    """Ask the models, write their results, print a summary.

    Args:
        args: the options.
        config: the settings.

    Returns:
        The exit code.
    """
    names = _choose_models(args, config)
    metrics = evaluation_metrics(choose_metrics(args.metrics, config))
    _refuse_out(args)
    questions = QuestionTable.read(args.table, args.images, args.columns, VQA_COLUMNS)
    ensure_wordnet()  # before any long work
    print(questions.columns.describe())
    path = args.train or (TRAIN if TRAIN.exists() else None)
    train = None if path is None else TrainRows.read(path, questions)
    warnings, notes = _describe_inputs(questions, train, cross_fit=args.cross_fit)
    for line in [*notes, *(f"warning: {text}" for text in warnings)]:
        print(line, flush=True)
    fitted_on = None if train is None or args.cross_fit else train.usable
    clusters = image_clusters(questions.test_rows())
    blind = answer_with_blind(questions, fitted_on, clusters, config.seed)
    answers = answer_with_models(
        names, config, args.adapter, questions, lambda line: print(line, flush=True)
    )
    answers.predictions |= blind.predictions
    answers.unfinished_fits += blind.unfinished_fits
    answers.partial_fits |= blind.partial_fits
    if args.metrics is None and toy_metrics(config):
        notes.append(TOYS_LEFT_OUT)
    warnings += [f"{name} has no results: {why}" for name, why in answers.failures.items()]
    external = ExternalTable(
        args.table.name,
        _portable(warnings, args),
        _portable(notes, args),
        _hashes(args, train, answers),
    )
    evaluation = _write(args, config, questions, train, answers, metrics, external)
    print("\n".join(results_table(evaluation.metrics, evaluation.details, markdown=False)))
    rows = len(questions.columns.frame)
    print(f"{rows:,} rows × {len(evaluation.metrics)} models → {args.out / REPORT.name}")
    if answers.failures:
        _report_failures(answers)
        return _MODEL_MISSING
    for journal in answers.journals:
        discard(journal)
    return 0


def _choose_models(args: argparse.Namespace, config: Config) -> list[str]:
    """The models to ask, the blind ones not included.

    Raises:
        UserError: a name isn't known, there is none, or `finetuned` has no adapter.
    """
    has_adapter = (args.adapter / "adapter_config.json").is_file()
    if args.models is None:
        names = [*config.baselines.models]
        if has_adapter:
            names.append(FINETUNED_MODEL)
            if config.ranking.finetuned and TRAIN.exists():
                names.append(FINETUNED_RANKED)
    else:
        names = [name.strip() for name in args.models.split(",") if name.strip()]
        if not names:
            raise UserError(f"--models {args.models!r} names no model.")
    for name in names:
        require_model(name, config, [BLIND_MODEL, *FINETUNED_MODELS])
        if name in FINETUNED_MODELS and not has_adapter:
            raise UserError(
                f"no adapter in {args.adapter}: run the stage `finetune`, name another folder with "
                f"--adapter, or leave {name} out of --models."
            )
    return [name for name in dict.fromkeys(names) if name != BLIND_MODEL]


def _refuse_out(args: argparse.Namespace) -> None:
    """Check that the results' folder may be written, and replaced if it is there.

    Raises:
        UserError: it is a file, isn't this command's, or holds something that is read.
        OSError: the system refuses it.
    """
    out: Path = args.out.resolve()
    if out.is_file():
        raise UserError(f"--out {args.out} is a file; it names the folder for the results.")
    if out.is_dir() and any(out.iterdir()) and not (out / _MARKER).is_file():
        raise UserError(
            f"--out {args.out} exists, and this command didn't write it (there is no {_MARKER} in "
            "it). Choose another folder, or remove this one."
        )
    for source in (args.table, args.images, args.train, args.adapter):
        if source is not None and source.resolve().is_relative_to(out):
            raise UserError(f"{source} would be removed with --out {args.out}: choose another.")
    with tempfile.TemporaryFile(dir=nearest_existing(out.parent)):
        pass


def _describe_inputs(
    questions: QuestionTable, train: TrainRows | None, *, cross_fit: bool
) -> tuple[list[str], list[str]]:
    """Warnings about the rows, and what else a reader of the numbers has to know."""
    warnings = [text.removeprefix("warning: ") for text in questions.columns.blank_warnings()]
    if missing := questions.missing_images():
        warnings.append(f"{missing}; they count as wrong for every model, the blind ones too")
    if train is None:
        return warnings, ["there are no training rows to compare this table with", CROSS_FIT]
    leak = train.overlap is not None and train.overlap.is_leak
    notes: list[str] = []
    (warnings if leak else notes).append(train.describe_overlap())
    return warnings, [*notes, CROSS_FIT if cross_fit else train.describe_fit()]


def _write(
    args: argparse.Namespace,
    config: Config,
    questions: QuestionTable,
    train: TrainRows | None,
    answers: BenchmarkAnswers,
    metrics: list[str],
    external: ExternalTable,
) -> Evaluation:
    """Evaluate the answers and write the folder with all results."""
    test = questions.test_rows()
    with atomic_folder(args.out.resolve()) as folder:
        predictions = {}
        for name, table in answers.predictions.items():
            path = write_table(table, folder / "predictions" / f"{name}.csv")
            predictions[name] = read_predictions(path, len(test))
        tables = Tables(
            test,
            predictions,
            None if train is None else train.table,
            unfinished_fits=answers.unfinished_fits,
            partial_fits=answers.partial_fits,
        )
        device = str(pick_device(config.compute.device))
        evaluation = evaluate(tables, config, device, metrics, required=args.metrics is not None)
        if train is None or train.path != TRAIN:
            # Ranked decoding chooses among the answers of data/train.csv, whatever --train is.
            evaluation.details.pop("closed_world", None)
        for name, table in evaluation.scored.items():
            (folder / SCORES.name).mkdir(exist_ok=True)
            table.to_parquet(folder / SCORES.name / f"{name}.parquet", index=False)
        write_results(evaluation.metrics, folder / METRICS.name, RESULT_DIGITS)
        write_results(evaluation.details, folder / EVALUATION.name, RESULT_DIGITS)
        external = replace(external, notes=[*external.notes, *evaluation.notes])
        audit = train.overlap.audit if train is not None and train.overlap is not None else {}
        results = external_results(config, evaluation, test, external, audit)
        write_report(results, questions.image, folder)
        marker = {"command": "abo-vqa benchmark", "models": list(predictions), **asdict(external)}
        write_json(marker, folder / _MARKER)
    return evaluation


def _portable(texts: list[str], args: argparse.Namespace) -> list[str]:
    """The texts with files called by their names: where they lie differs between machines."""
    paths = [path for path in (args.table, args.images, args.train, args.adapter) if path]
    for path in sorted(paths, key=lambda path: -len(str(path))):
        texts = [text.replace(str(path), path.name) for text in texts]
    return texts


def _hashes(
    args: argparse.Namespace, train: TrainRows | None, answers: BenchmarkAnswers
) -> dict[str, str]:
    """The MD5 of each table, and of the adapter that has answered."""
    hashes = {f"table: {args.table.name}": file_md5(args.table)}
    if train is not None:
        hashes[f"training rows: {train.path.name}"] = file_md5(train.path)
    if set(FINETUNED_MODELS) & set(answers.predictions):
        for file in sorted(args.adapter.glob("adapter_*")):
            hashes[f"adapter: {file.name}"] = file_md5(file)
    return hashes


def _report_failures(answers: BenchmarkAnswers) -> None:
    """Print which models have no answers, why, and what to do."""
    for name, reason in answers.failures.items():
        print(f"abo-vqa benchmark: {name} has no results: {reason}", file=sys.stderr)
    print(
        "abo-vqa benchmark: the same command asks for what is missing; answers are kept.",
        file=sys.stderr,
    )
