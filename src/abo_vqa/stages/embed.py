"""Stage `embed`: images → BLIP's vision outputs, for its baseline, training and evaluation.

The vision tower is frozen and has no dropout, so its output for an image is a constant.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.locks import discard
from abo_vqa.core.paths import EMBEDDINGS, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table
from abo_vqa.models.embeddings.build import build_embeddings


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/embeddings for every image that data/vqa.csv asks about.

    Args:
        config: the settings.
    """
    start = time.perf_counter()
    paths = sorted(set(read_table(VQA, ["image_path"])["image_path"]))
    result = build_embeddings(config, paths, EMBEDDINGS)
    speed = {}
    if result.encoded:
        speed["pictures_per_second"] = result.encoded / (time.perf_counter() - start)
    return Summary(
        f"{len(paths)} images → {EMBEDDINGS} ({result.size / 1e6:.0f} MB, {config.embed.dtype})"
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


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("embed", run, load_config(), checkpoint="blip"))
    return 0
