"""Stage `vectors`: images → one vector each of a model in `split.cosine`.

Whatever groups images compares them by these vectors, beside their perceptual hashes.
"""

from __future__ import annotations

import argparse
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.paths import GENERATED, vectors_of
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.embeddings.summary import embed_table
from abo_vqa.models.registry import checkpoint_of


def run(config: Config, _log: Log = no_log, *, model: str) -> Summary:
    """Write data/vectors/<model> for every image that data/generated.csv asks about.

    Args:
        config: the settings.
        model: the key under `models` of the weights.

    Raises:
        UserError: the model has no vectors of images, or none of the images can be read.
    """
    return embed_table(config, model, GENERATED, vectors_of(model), pooled=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("--model", required=True, help="a name under models in the profile")


def command(args: argparse.Namespace) -> int:
    """Run the stage.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    config = load_config()
    checkpoint_of(args.model, config)  # raises if there is none
    stage = partial(run, model=args.model)
    print(execute(f"vectors@{args.model}", stage, config, checkpoint=args.model))
    return 0
