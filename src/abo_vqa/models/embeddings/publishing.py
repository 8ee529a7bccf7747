"""Finished files of vectors in a stage's output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.core.vector_files import SHARDS_FILE, VECTORS_FILE, shard_name, vector_files
from abo_vqa.data.vector_shards import Shard, ShardList
from abo_vqa.models.embeddings.builder import STORED_DTYPES, WrittenShard


def publish_vectors(
    shards: Sequence[WrittenShard], dtype: str, row_shape: tuple[int, ...], out: Path
) -> int:
    """Give finished files of vectors to an output, with a list of them if there are several.

    Args:
        shards: the files, in order.
        dtype: the dtype that the vectors are stored in.
        row_shape: the shape of a row of their arrays.
        out: the output; files of an earlier run are replaced.

    Returns:
        The number of bytes.

    Raises:
        NoSpaceError: they have to be copied, and the disk has no space for them.
    """
    _clear(out)
    if len(shards) == 1:
        names = [VECTORS_FILE]
    else:
        names = [shard_name(number) for number in range(len(shards))]
    for shard, name in zip(shards, names, strict=True):
        _link_or_copy(shard.file, out / name)
    if len(shards) > 1:
        listed = [Shard(name, s.images, s.rows) for s, name in zip(shards, names, strict=True)]
        ShardList(np.dtype(STORED_DTYPES[dtype]).str, row_shape, tuple(listed)).write(out)
    return sum((out / name).stat().st_size for name in names)


def publish_list(
    url: str, shards: Sequence[Shard], dtype: str, row_shape: tuple[int, ...], out: Path
) -> int:
    """Write the list of shards that are on object storage to an output.

    Args:
        url: the folder that holds them.
        shards: in order.
        dtype: the dtype that the vectors are stored in.
        row_shape: the shape of a row of their arrays.
        out: the output; files of an earlier run are replaced.

    Returns:
        The number of bytes there.
    """
    _clear(out)
    ShardList(np.dtype(STORED_DTYPES[dtype]).str, row_shape, tuple(shards), url).write(out)
    return sum(shard.bytes or 0 for shard in shards)


def _clear(out: Path) -> None:
    """Remove an earlier run's vectors."""
    out.mkdir(parents=True, exist_ok=True)
    for stale in (out / SHARDS_FILE, *vector_files(out)):
        stale.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, without a second copy if both are on one disk."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        with report_full_disk(target, source.stat().st_size):
            shutil.copyfile(source, target)
