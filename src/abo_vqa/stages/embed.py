"""Stage `embed`: images → a model's vision outputs, for training, prediction and BLIP's baseline.

The vision part is frozen and has no dropout, so its output for an image is a constant.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import VQA, embeddings_of
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table
from abo_vqa.models.embeddings.build import build_embeddings
from abo_vqa.models.registry import checkpoint_key, require_model


def run(config: Config, _log: Log = no_log, *, model: str | None = None) -> Summary:
    """Write data/embeddings/<model> for every image that data/vqa.csv asks about.

    Args:
        config: the settings.
        model: the model's name; None for `lora.model`.
    """
    name = model or config.lora.model
    out = embeddings_of(name)
    start = time.perf_counter()
    paths = sorted(set(read_table(VQA, ["image_path"])["image_path"]))
    result = build_embeddings(config, name, paths, out)
    speed = {}
    if result.encoded:
        speed["pictures_per_second"] = result.encoded / (time.perf_counter() - start)
    return Summary(
        f"{len(paths)} images → {out} ({result.size / 1e6:.0f} MB, {config.embed.dtype})"
        + (f"; {len(result.errors)} can't be read" if result.errors else ""),
        metrics={
            "pictures": len(paths),
            "unreadable": len(result.errors),
            "bytes": result.size,
            "peak_memory_bytes": result.peak,
            **speed,
        },
        cleanup=partial(discard, result.scratch),
    )


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
