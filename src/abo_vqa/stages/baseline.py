"""One model's answers to every row, in the study's sampling order: a fraction is a prefix."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from abo_vqa.config import load_config
from abo_vqa.core.locks import locked
from abo_vqa.core.processes import how_many, launch, rank_and_world, supervised, terminable
from abo_vqa.core.stage import execute, pin_threads
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.answering.baseline import Job, answer_all, answer_share, run_blind
from abo_vqa.models.answering.journal import collect
from abo_vqa.models.registry import FAMILIES

if TYPE_CHECKING:
    from abo_vqa.config import Config


def run_model(name: str, config: Config) -> Summary:
    """Write reports/baselines/<name>/predictions.csv."""
    summary = answer_all(name, config)
    summary.cleanup()
    return summary


def arguments(parser: argparse.ArgumentParser) -> None:
    names = [*FAMILIES, "blind"]
    parser.add_argument("--model", required=True, choices=names, help="whose answers")
    parser.add_argument(
        "--processes",
        type=how_many,
        default=1,
        help="share the rows among so many processes, one a GPU; the output is the same",
    )


def command(args: argparse.Namespace) -> int:
    if args.processes > 1 and args.model != "blind":
        Job.of(args.model, load_config())  # a mistake is told once, not by every process
        return launch(args.processes, ["baseline", "--model", args.model])
    if rank_and_world()[0] > 0:
        return _help_out(args.model)

    def run(config: Config, log: Log = no_log) -> Summary:
        return run_blind(config) if args.model == "blind" else answer_all(args.model, config)

    return execute(f"baseline@{args.model}", run, load_config())


def _help_out(name: str) -> int:
    """What processes other than the first do: their share, and no more."""
    config = load_config()
    pin_threads(config.threads)
    if name == "blind":
        return 0
    job = Job.of(name, config)
    with terminable(), supervised(), locked(job.folder, rank_and_world()[0]):
        if collect(job.rows, job.folder) is None:
            answer_share(name, config, job)
    return 0
