"""Bring a saved session back into a checkout, usually a new clone."""

from __future__ import annotations

import os
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.sessions.contents import LOCK, MARKER, SCRATCH
from abo_vqa.core.sessions.manifest import MANIFEST, PREVIOUS, Manifest, read_manifest
from abo_vqa.core.sessions.objects import DamagedObjectError, ObjectStore
from abo_vqa.core.sessions.saving import read_marker, write_marker

logger = get_logger(__name__)

# What a checkout has of its own before anything ran in it.
_FRESH = {"locks", "nltk_data", "mlflow", "remote", MARKER.name}


def restore_session(
    root: Path, folder: Path, dvc_cache: ObjectStore, *, force: bool = False
) -> Manifest | None:
    """Copy a session's files, and its outputs into DVC's cache; `dvc checkout` then links them.

    A kill at any time costs nothing: the same command starts over, with what it has copied.

    Args:
        root: the checkout.
        folder: what `save_session` wrote; it is only read.
        dvc_cache: DVC's cache.
        force: replace work that this checkout has of its own.

    Returns:
        The save that was restored; None if the checkout is as new already.

    Raises:
        UserError: The folder has no session that can be restored, or the checkout has its own work.
    """
    manifests = [read_manifest(folder / name) for name in (MANIFEST, PREVIOUS)]
    saves = [manifest for manifest in manifests if manifest is not None]
    if not saves:
        raise UserError(
            f"{folder} has no saved session ({MANIFEST} isn't there). Name the folder that "
            "`abo-vqa session save` or `abo-vqa session run` was given."
        )
    marker = read_marker(root)
    if marker is not None and marker[0] == saves[0].session and marker[1] >= saves[0].number:
        return None
    if not force:
        _refuse_own_work(root, folder, marker, saves[0])
    reasons = []
    for manifest in saves:
        try:
            _copy_back(root, ObjectStore(folder), dvc_cache, manifest)
        except DamagedObjectError as error:
            reasons.append(str(error))
            continue
        if reasons:
            logger.warning(f"{reasons[0]}: the save before it is restored ({manifest.saved_at})")
        write_marker(root, manifest)
        return manifest
    raise UserError(
        f"{folder} can't be restored: {'; '.join(reasons)}. Copy the folder again from where it "
        "was saved, all of it."
    )


def _refuse_own_work(
    root: Path, folder: Path, marker: tuple[str, int] | None, save: Manifest
) -> None:
    """Refuse to replace journals and checkpoints that aren't in the saved session."""
    if marker is not None and marker[0] == save.session:
        return  # an older state of the same session
    scratch = root / SCRATCH
    own = sorted(p.name for p in scratch.iterdir() if p.is_dir()) if scratch.is_dir() else []
    own = [name for name in own if name not in _FRESH]
    if own:
        raise UserError(
            f"this checkout has work of its own ({', '.join(own)} in {SCRATCH}), which {folder} "
            "would replace. Restore into a new clone, or add --force."
        )


def _copy_back(root: Path, store: ObjectStore, dvc_cache: ObjectStore, manifest: Manifest) -> None:
    """Copy everything into a checkout: dvc.lock last, since it says that the rest is there.

    Raises:
        DamagedObjectError: Something is missing or damaged; seen before anything is replaced, if
            it is missing.
    """
    for name in sorted(manifest.names()):
        if not store.has(name):
            raise DamagedObjectError(f"{store.path(name)} is missing")
    for name in manifest.objects:
        store.copy_into(name, dvc_cache)
    lock = LOCK.as_posix()
    for path in sorted(manifest.files, key=lambda path: path == lock):
        file, target = manifest.files[path], root / path
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        store.copy_to(file.name, target)
        # As it was: the next save needn't read it again.
        os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
