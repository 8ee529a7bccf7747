"""Stage `embed`: images → a model's vision outputs, for training, prediction and BLIP's baseline.

The vision part is frozen and has no dropout, so its output for an image is a constant.
"""

from __future__ import annotations

import argparse
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.paths import VQA, embeddings_of
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.models.embeddings.summary import embed_table
from abo_vqa.models.registry import checkpoint_key, require_model


def run(config: Config, _log: Log = no_log, *, model: str | None = None) -> Summary:
    """Write data/embeddings/<model> for every image that data/vqa.csv asks about.

    Args:
        config: the settings.
        model: the model's name; None for `lora.model`.
    """
    name = model or config.lora.model
    return embed_table(config, name, VQA, embeddings_of(name))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("--model", help="a name under models in the profile (default: lora.model)")


def command(args: argparse.Namespace) -> int:
    """Run the stage.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    config = load_config()
    model = args.model or config.lora.model
    require_model(model, config)
    stage = partial(run, model=model)
    print(execute(f"embed@{model}", stage, config, checkpoint=checkpoint_key(model)))
    return 0
