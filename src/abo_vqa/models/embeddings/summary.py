"""A table's images → vision outputs, with the summary that the stages record."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.locks import discard
from abo_vqa.core.summary import Summary
from abo_vqa.core.text_list import distinct_texts
from abo_vqa.models.embeddings.build import build_embeddings

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def embed_table(
    config: Config, model: str, table: Path, out: Path, *, pooled: bool = False
) -> Summary:
    """Write the vision outputs of every image that a table asks about.

    Args:
        config: the settings.
        model: the model's name.
        table: a CSV with a column image_path.
        out: the folder of the store.
        pooled: one vector per image instead; see `build_embeddings`.

    Raises:
        UserError: the model has no such outputs, or memory isn't sufficient for a single image.
        OSError: the disk has no space for the file.
    """
    start = time.perf_counter()
    paths = distinct_texts(table, "image_path")
    result = build_embeddings(config, model, paths, out, pooled=pooled)
    speed = {}
    if result.encoded:
        speed["pictures_per_second"] = result.encoded / (time.perf_counter() - start)
    stored = config.embed.store is not None and not pooled
    place = f"{out}, vectors at {config.embed.store}" if stored else out
    dtype = "float32" if pooled else config.embed.dtype
    return Summary(
        f"{len(paths)} images → {place} ({result.size / 1e6:.1f} MB, {dtype})"
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
