"""One model's answers to every row, in the study's sampling order: a fraction is a prefix."""

from __future__ import annotations

import argparse
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.processes import launch, process_count, rank_and_world_size
from abo_vqa.core.stage import execute, pin_threads
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.registry import BLIND_MODEL, STUDY_MODELS, checkpoint_key, require_model


def run(config: Config, _log: Log = no_log, *, model: str) -> Summary:
    """Write reports/baselines/<model>/predictions.csv.

    Args:
        config: the settings.
        model: the model's name; "blind" for all baselines without an image.
    """
    if model == BLIND_MODEL:
        from abo_vqa.models.answering.blind import run_blind

        return run_blind(config)
    # Only here: it loads torch, which the blind baselines don't need.
    from abo_vqa.models.answering.baseline import answer_all

    return answer_all(model, config)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    names = ", ".join([*STUDY_MODELS, BLIND_MODEL])
    parser.add_argument(
        "--model", required=True, help=f"{names}, or another name under models in the profile"
    )
    parser.add_argument(
        "--processes",
        type=process_count,
        default=1,
        help="processes that share the rows, each on its own GPU; the output is the same",
    )


def command(args: argparse.Namespace) -> int:
    """Run the stage, in this process or in several.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    config = load_config()
    require_model(args.model, config, [BLIND_MODEL])
    first = rank_and_world_size()[0] == 0
    if args.model != BLIND_MODEL and (args.processes > 1 or not first):
        from abo_vqa.models.answering.baseline import Job, answer_as_helper

        if args.processes > 1:
            Job.of(args.model, config)  # a mistake is reported once, not by every process
            return launch(args.processes, ["baseline", "--model", args.model])
        pin_threads(config.threads)
        answer_as_helper(args.model, config)
    elif first:
        checkpoint = None if args.model == BLIND_MODEL else checkpoint_key(args.model)
        stage = partial(run, model=args.model)
        print(execute(f"baseline@{args.model}", stage, config, checkpoint))
    return 0
