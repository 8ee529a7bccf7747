"""Save a checkout's work to a folder on another disk, while it goes on.

`dvc push` would hold DVC's lock, for which a running `dvc repro` waits three seconds and then
fails; files under their hashes can be copied beside it.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.scratch import cache
from abo_vqa.core.sessions.contents import (
    LOCK,
    MARKER,
    is_database,
    outputs,
    snapshot,
    work_files,
)
from abo_vqa.core.sessions.manifest import (
    MANIFEST,
    PREVIOUS,
    Manifest,
    SavedFile,
    read_manifest,
    write_manifest,
)
from abo_vqa.core.sessions.objects import DamagedObjectError, ObjectStore

_LOCK_WAIT_S = 600


def read_marker(root: Path) -> tuple[str, int] | None:
    """Return the session that a checkout belongs to, and the save that it is as new as.

    Args:
        root: the checkout.
    """
    if not (root / MARKER).is_file():
        return None
    value = read_json(root / MARKER)
    return str(value["session"]), int(value["number"])


def write_marker(root: Path, manifest: Manifest) -> None:
    """Record that a checkout is as new as a save.

    Args:
        root: the checkout.
        manifest: the save.
    """
    write_json({"session": manifest.session, "number": manifest.number}, root / MARKER)


def save_session(
    root: Path, folder: Path, dvc_cache: ObjectStore, commit: str, *, embeddings: bool = False
) -> Manifest:
    """Save what this checkout has done.

    What is the same as in the last save isn't copied again. A kill at any time leaves the last save
    as it was, and the one before it, in case a file of the last one is lost.

    Args:
        root: the checkout.
        folder: where to.
        dvc_cache: DVC's cache.
        commit: the checkout's commit.
        embeddings: save vision outputs, too.

    Returns:
        The list of what is saved.

    Raises:
        UserError: The folder has other work, which a save would replace.
    """
    try:
        with FileLock(cache("locks") / "session.lock", timeout=_LOCK_WAIT_S):
            last = read_manifest(folder / MANIFEST)
            marker = read_marker(root)
            if last is not None:
                _refuse_other_work(folder, last, marker)
            session = marker[0] if marker else uuid.uuid4().hex
            manifest = _copy_all(root, folder, dvc_cache, last, embeddings).model_copy(
                update={
                    "session": session,
                    "number": (marker[1] if marker else 0) + 1,
                    "commit": commit,
                }
            )
            if last is not None:
                write_manifest(last, folder / PREVIOUS)
            # First: a kill in between must not leave a folder that this checkout can't save to.
            write_marker(root, manifest)
            write_manifest(manifest, folder / MANIFEST)
            ObjectStore(folder).prune(manifest.names() | (last.names() if last else set()))
            return manifest
    except Timeout as error:
        raise UserError("another process is saving this checkout: try again later.") from error


def _refuse_other_work(folder: Path, last: Manifest, marker: tuple[str, int] | None) -> None:
    """Refuse to replace a save that this checkout doesn't descend from."""
    if marker is not None and marker[0] == last.session and marker[1] >= last.number:
        return
    raise UserError(
        f"{folder} has the work of another checkout (saved {last.saved_at}), which this one lacks. "
        f"Go on from it with `abo-vqa session restore {folder}`, or name another folder."
    )


def _copy_all(
    root: Path, folder: Path, dvc_cache: ObjectStore, last: Manifest | None, embeddings: bool
) -> Manifest:
    """Copy what is new; dvc.lock first, since what it names is in DVC's cache by then."""
    store = ObjectStore(folder)
    files: dict[str, SavedFile] = {}
    before = last.files if last else {}
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch)
        if lock := _copy_file(root, LOCK, store, before, copied):
            files[LOCK.as_posix()] = lock
        recorded = outputs(root, dvc_cache, embeddings=embeddings)
        objects = [name for name in recorded.objects if _copy_object(name, dvc_cache, store)]
        for path in (*recorded.files, *work_files(root)):
            if file := _copy_file(root, path, store, before, copied):
                files[path.as_posix()] = file
    return Manifest(
        session="",
        number=0,
        saved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit="",
        files=files,
        objects=tuple(objects),
        outputs=recorded.paths,
    )


def _copy_object(name: str, dvc_cache: ObjectStore, store: ObjectStore) -> bool:
    """Copy one of DVC's objects; False if it has gone or is damaged, and its stage is to rerun."""
    try:
        dvc_cache.copy_into(name, store)
    except DamagedObjectError:
        return False
    return True


def _copy_file(
    root: Path, path: Path, store: ObjectStore, before: Mapping[str, SavedFile], scratch: Path
) -> SavedFile | None:
    """Copy a file as it is now; None if it has gone meanwhile."""
    source = root / path
    try:
        status = source.stat()
        known = before.get(path.as_posix())
        if is_database(source):
            # Its newest pages may be in a file beside it, so its own time says nothing.
            snapshot(source, scratch / "database")
            name = store.add(scratch / "database")
            (scratch / "database").unlink()
        elif known and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
            name = known.name if store.has(known.name) else store.add(source)
        else:
            name = store.add(source)
    except FileNotFoundError:
        return None
    return SavedFile(name=name, size=status.st_size, mtime_ns=status.st_mtime_ns)
