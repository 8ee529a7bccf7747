"""The files that hold a folder's vectors: one, or several shards. Loads neither torch nor NumPy."""

from __future__ import annotations

from pathlib import Path

VECTORS_FILE = "vectors.npy"
"""All vectors of a folder, where they are one file."""
SHARDS_FILE = "shards.json"
"""Where they are several: the shards in order, with how much each holds."""


def shard_name(number: int) -> str:
    """Return the name of a shard.

    Args:
        number: counted from 0.
    """
    return f"vectors-{number:05d}.npy"


def vector_files(folder: Path) -> list[Path]:
    """List the files of vectors in a folder, in order.

    Args:
        folder: it may be missing.
    """
    one = folder / VECTORS_FILE
    return [*([one] if one.is_file() else []), *sorted(folder.glob("vectors-*.npy"))]


def has_vectors(folder: Path) -> bool:
    """Whether a folder holds vectors, or says where they are.

    Args:
        folder: it may be missing.
    """
    return any((folder / name).is_file() for name in (VECTORS_FILE, SHARDS_FILE))
