"""Check that a downloaded archive is complete, and the one that was recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from abo_vqa.core.data_config import DownloadConfig
from abo_vqa.core.errors import UserError
from abo_vqa.core.progress import progress
from abo_vqa.data.tar_index import build_index


def verify_archive(remote: DownloadConfig, path: Path, target: Path) -> DownloadConfig:
    """Check an archive's size, SHA-256 and structure.

    Args:
        remote: the recorded size and SHA-256, where known.
        path: the file.
        target: its final name; another than `path` for a file that was just downloaded.

    Returns:
        the address with the file's size and SHA-256.

    Raises:
        UserError: it isn't what was recorded, or isn't a complete tar. A file that was just
            downloaded is removed, one that was there before is left alone.
    """
    size, fresh = path.stat().st_size, path != target
    problem = ""
    digest = ""
    if remote.bytes is not None and size != remote.bytes:
        problem = f"has {size:,} bytes, {remote.bytes:,} are recorded"
    else:
        digest = _sha256(path, size)
        if remote.sha256 and digest != remote.sha256:
            problem = f"has the SHA-256 {digest}, {remote.sha256} is recorded"
    if not problem:
        try:
            build_index(path)  # the server's Content-Length doesn't prove that the tar is complete
        except UserError as error:
            problem = f"isn't a whole archive: {str(error).replace(str(path), target.name)}"
    if problem:
        if fresh:
            path.unlink()
            path.with_name(path.name + ".json").unlink(missing_ok=True)
        raise UserError(
            f"{target} {'as downloaded ' if fresh else ''}{problem}. "
            + ("It was removed; try again. " if fresh else "Delete it and run this again. ")
            + "If the publisher has released a new version on purpose, remove the entry of "
            f"{remote.url} from the profile's .lock.json first: results won't be comparable."
        )
    return DownloadConfig(url=remote.url, bytes=size, sha256=digest)


def _sha256(path: Path, size: int) -> str:
    """A file's SHA-256, with a progress bar."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        chunks: Iterator[bytes] = iter(lambda: file.read(8 << 20), b"")
        count = -(-size // (8 << 20))
        for chunk in progress(chunks, total=count, desc="checking", unit="block"):
            digest.update(chunk)
    return digest.hexdigest()
