"""`abo-vqa benchmark`: models and blind baselines on any table of questions and answers.

    abo-vqa benchmark --table test.csv --images DIR --models blip,llava,finetuned --out results/

The folder then holds what the pipeline writes about its own test rows: predictions, scores,
metrics.json, evaluation.json, figures, report.html and browser.html.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.commands.adapter_option import add_adapter_option
from abo_vqa.core.config import load_config
from abo_vqa.core.paths import TRAIN
from abo_vqa.core.stage import pin_threads
from abo_vqa.data.columns import add_columns_option

_EPILOG = """An interrupted run continues where it was: give the same command again.

exit code: 0; 1 if a model has no answers (everything else is written, and the same
command asks for what is missing); 2 if something is wrong with what was given."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        metavar="FILE",
        help="CSV with an image, a question and the right answer per row, under any usual names",
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the images, or a tar of them",
    )
    parser.add_argument(
        "--models",
        metavar="NAMES",
        help="comma-separated, of the profile's models, `finetuned` and `finetuned-ranked` "
        "(default: baselines.models, and the fine-tuned ones if there is an adapter); the blind "
        "baselines always answer too",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the results; one that this command wrote earlier is replaced",
    )
    add_adapter_option(parser)
    _add_training_options(parser)
    parser.add_argument(
        "--metrics",
        help="comma-separated, as for `abo-vqa score` (default: all whose models are there, but no "
        "toy models); accuracy and F1 are always computed",
    )
    add_columns_option(parser)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about the rows that the blind baselines learn from."""
    fit = parser.add_mutually_exclusive_group()
    fit.add_argument(
        "--train",
        type=Path,
        metavar="FILE",
        help="CSV with the questions and answers that the blind baselines are fitted on, and that "
        f"the table mustn't share images with (default: {TRAIN} if there is one, else --cross-fit)",
    )
    fit.add_argument(
        "--cross-fit",
        action="store_true",
        help="fit the blind baselines on the table itself, in five parts by image: each part is "
        "answered by a fit on the others",
    )


def command(args: argparse.Namespace) -> int:
    """Run the benchmark.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    config = load_config()
    pin_threads(config.threads)
    # Only now: it loads torch, and `--help` shouldn't wait for it.
    from abo_vqa.commands.benchmarking import benchmark

    return benchmark(args, config)
