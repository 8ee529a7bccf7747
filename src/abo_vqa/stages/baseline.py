"""Stage `baseline`: one model's answers to every row, in the study's sampling order."""

from __future__ import annotations

import argparse
from functools import partial

from abo_vqa.config import Config, load_config
from abo_vqa.core.locks import locked
from abo_vqa.core.processes import launch, process_count, rank_and_world, supervised, terminable
from abo_vqa.core.stage import execute, pin_threads
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.answering.baseline import Job, answer_all, answer_share, run_blind
from abo_vqa.models.answering.journal import collect
from abo_vqa.models.registry import FAMILIES

_BLIND = "blind"


def run(config: Config, _log: Log = no_log, *, model: str) -> Summary:
    """Write reports/baselines/<model>/predictions.csv.

    Args:
        config: the settings.
        model: the model's name; "blind" for all baselines without a picture.
    """
    return run_blind(config) if model == _BLIND else answer_all(model, config)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the word's parser.
    """
    parser.add_argument("--model", required=True, choices=[*FAMILIES, _BLIND], help="whose answers")
    parser.add_argument(
        "--processes",
        type=process_count,
        default=1,
        help="share the rows among so many processes, each on its own GPU; the output is the same",
    )


def command(args: argparse.Namespace) -> int:
    """Run the stage, in this process or in several.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if args.processes > 1 and args.model != _BLIND:
        Job.of(args.model, load_config())  # a mistake is reported once, not by every process
        return launch(args.processes, ["baseline", "--model", args.model])
    if rank_and_world()[0] > 0:
        _answer_share(args.model)
    else:
        print(execute(f"baseline@{args.model}", partial(run, model=args.model), load_config()))
    return 0


def _answer_share(model: str) -> None:
    """Do what processes other than the first do: their share of the rows, and no more."""
    config = load_config()
    pin_threads(config.threads)
    if model == _BLIND:
        return
    job = Job.of(model, config)
    with terminable(), supervised(), locked(job.folder, rank_and_world()[0]):
        if collect(job.rows, job.folder) is None:
            answer_share(model, config, job)
