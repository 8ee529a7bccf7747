"""What tells a checkpoint's weights from others; loads neither torch nor transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.fingerprints import file_md5, fingerprint

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, ComputeConfig


def identity(checkpoint: CheckpointConfig) -> str:
    """Return what identifies the weights: hub id and revision, or the local files' hashes.

    Args:
        checkpoint: the checkpoint's settings.
    """
    folder = Path(checkpoint.path)
    if folder.is_dir():
        return _folder_identity(folder)
    return f"{checkpoint.path}@{checkpoint.revision or 'main'}"


def weights_record(checkpoint: CheckpointConfig, compute: ComputeConfig) -> dict[str, str]:
    """Return what a text depends on of a checkpoint's settings, but for its prompt and decoding.

    Args:
        checkpoint: the checkpoint's settings.
        compute: the default number format.
    """
    return {
        "weights": fingerprint(identity(checkpoint)),
        "dtype": checkpoint.dtype or compute.dtype,
        "quantize": checkpoint.quantize or "",
    }


def same_checkpoint(one: str, other: str) -> bool:
    """Return whether two paths mean the same weights.

    They do if they are equal, if they lead to the same folder, or to folders of equal files.

    Args:
        one: a folder, or a repository of the hub.
        other: the same.
    """
    if one == other:
        return True
    first, second = Path(one), Path(other)
    if not (first.is_dir() and second.is_dir()):
        return False
    if first.resolve() == second.resolve():
        return True
    return _folder_identity(first) == _folder_identity(second)


def _folder_identity(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return " ".join(f"{p.relative_to(folder).as_posix()}:{file_md5(p)}" for p in files)
