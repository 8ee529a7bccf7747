"""Stage `embed`: images → BLIP's vision outputs, for its baseline, training and evaluation.

The vision tower is frozen and has no dropout, so its output for an image is a constant.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
import pandas as pd
import torch

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.json_files import write_json
from abo_vqa.core.locks import discard, locked
from abo_vqa.core.paths import EMBEDDINGS, VQA
from abo_vqa.core.scratch import scratch
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.models.embeddings.build import (
    build_embeddings,
    compute_dtype,
    embedding_key,
    link_or_copy,
)
from abo_vqa.models.embeddings.store import expected_meta


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write data/embeddings for every image that data/vqa.csv asks about.

    Args:
        config: the settings.
    """
    torch.set_num_threads(config.threads)
    began = time.perf_counter()
    paths = sorted(set(read_table(VQA, ["image_path"])["image_path"]))
    meta = {**expected_meta(config), "arithmetic": compute_dtype(config)}
    with locked(scratch("embed", embedding_key(config, paths, meta))) as folder:
        built = build_embeddings(config, paths, folder)
        shape = np.load(built.file, mmap_mode="r").shape
        link_or_copy(built.file, EMBEDDINGS / "vectors.npy")
    errors = [built.errors.get(path, "") for path in paths]
    write_table(pd.DataFrame({"image_path": paths, "error": errors}), EMBEDDINGS / "paths.csv")
    sizes = {"images": shape[0], "tokens": shape[1], "width": shape[2], "digest": built.digest}
    write_json({**meta, **sizes}, EMBEDDINGS / "meta.json")
    size = (EMBEDDINGS / "vectors.npy").stat().st_size
    seconds = time.perf_counter() - began
    return Summary(
        f"{len(paths)} pictures → {EMBEDDINGS} ({size / 1e6:.0f} MB, {config.embed.dtype})"
        + (f"; {len(built.errors)} can't be read" if built.errors else ""),
        metrics={
            "pictures": len(paths),
            "unreadable": len(built.errors),
            "bytes": size,
            "pictures_per_second": len(paths) / seconds,
            "peak_memory_bytes": built.peak,
        },
        cleanup=partial(discard, folder),
    )


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("embed", run, load_config(), checkpoint="blip"))
    return 0
