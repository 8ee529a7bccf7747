"""Folders for journals, checkpoints and downloads, which outlive a stage's outputs."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.system_errors import PERMISSION_ERRNOS


def project_root() -> Path:
    """Find the main checkout.

    It is `DVC_ROOT` (set by DVC, also in a temporary workspace), else the nearest folder upwards
    with a dvc.yaml, else the current folder.
    """
    if root := os.environ.get("DVC_ROOT"):
        return Path(root)
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "dvc.yaml").is_file()), here)


def cache_folders() -> list[Path]:
    """List where journals and downloads may lie: in the checkout, else in the user's own cache.

    The second is for a checkout that can be read only; it has a folder for each checkout. A user
    without a home (`nobody`, a container's number without a name) has it among the temporary files.
    """
    root = project_root()
    named = os.environ.get("XDG_CACHE_HOME")
    own = [Path(named or os.path.expanduser("~/.cache")) / "abo-vqa"]  # noqa: PTH111
    if not named and hasattr(os, "getuid"):
        temporary = Path(tempfile.gettempdir()) / f"abo-vqa-{os.getuid()}"
        if not temporary.exists() or temporary.stat().st_uid == os.getuid():  # else it's a trap
            own.append(temporary)
    checkout = fingerprint(str(root.resolve()))
    # "~" stays where nobody knows the user's home.
    return [root / ".cache" / "abo-vqa", *(f / checkout for f in own if f.is_absolute())]


def cache(*parts: str) -> Path:
    """Make a folder in the first of `cache_folders` that can be written to.

    Args:
        *parts: its path below that folder.

    Returns:
        The folder.

    Raises:
        OSError: None can; it is about the first one.
    """
    first: OSError | None = None
    for base in cache_folders():
        folder = base.joinpath(*parts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        except OSError as error:
            if first is None and error.errno not in PERMISSION_ERRNOS:
                raise
            first = first or error
    assert first is not None
    raise first


def scratch(stage: str, key: str) -> Path:
    """Make the folder for journals and checkpoints that must outlive a stage's outputs.

    DVC deletes a stage's outputs before it runs, so what resuming needs lies beside the pipeline,
    under a key derived from everything that determines the result.

    Args:
        stage: the stage's name.
        key: a fingerprint of what determines its result.
    """
    return cache(stage, key)
