"""Download the real archives, check them against what was recorded, pin them in `data.dvc`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abo_vqa.core.config import DataConfig, DownloadConfig
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.paths import DATA_DVC, PROFILES
from abo_vqa.core.yaml_files import read_yaml
from abo_vqa.data.archive import IMAGES_TAR, LISTINGS_TAR
from abo_vqa.data.download import RetryPolicy, download_archive


def fetch_archives(profile: str, folder: Path | None, retries: RetryPolicy) -> Iterator[str]:
    """Download both archives of a profile and record their hashes.

    The first good download records size and SHA-256 in `conf/profiles/<profile>.lock.json`;
    committed, it makes every later download the same bytes, or a message that says why not.

    Args:
        profile: the profile's name.
        folder: where to; None for the profile's own folder.
        retries: how long to keep trying.

    Yields:
        Lines for the terminal.

    Raises:
        UserError: The profile names no archives, or they can't be downloaded.
    """
    data = _read_data(profile)
    folder = folder or data.raw
    lock_path = PROFILES / f"{profile}.lock.json"
    lock = dict(read_json(lock_path)) if lock_path.exists() else {}
    yield f"{data.attribution.strip()}\nLicence: {data.licence}"
    for name, remote in ((LISTINGS_TAR, data.listings), (IMAGES_TAR, data.images)):
        assert remote is not None  # `_read_data` checked
        archive = download_archive(_recorded(remote, lock), folder / name, retries)
        known = {"bytes": archive.bytes, "sha256": archive.sha256}
        if lock.get(remote.url) != known:
            lock[remote.url] = known
            write_json(lock, lock_path)
        yield f"{folder / name}: {archive.bytes:,} bytes, SHA-256 {archive.sha256}"


def pin_archives() -> None:
    """Record the downloaded files in data.dvc.

    DVC copies them into its cache. Where the file system has reflinks, or `cache.type` is hardlink,
    the disk holds them once.

    Raises:
        UserError: DVC couldn't; the files are there all the same.
    """
    process = subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", "--quiet", str(DATA_DVC)],
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise UserError(
            f"the archives are here, but `dvc commit {DATA_DVC}` failed:\n{process.stderr.strip()}"
        )


def _read_data(profile: str) -> DataConfig:
    """Read the `data` section of a profile, whatever profile params.yaml names.

    Raises:
        UserError: There is no such profile, or it names nothing to download.
    """
    path = PROFILES / f"{profile}.yaml"
    if PROFILES.is_dir() and not path.is_file():
        names = ", ".join(sorted(file.stem for file in PROFILES.glob("*.yaml"))) or "none"
        raise UserError(f"--profile {profile}: unknown; there are: {names}.")
    try:
        data = DataConfig.model_validate(read_yaml(path).get("data") or {})
    except ValidationError as error:
        raise UserError(f"{path}, data: {error}") from error
    if data.listings is None or data.images is None:
        raise UserError(f"{path} names no archives to download (data.listings, data.images).")
    return data


def _recorded(remote: DownloadConfig, lock: Mapping[str, Any]) -> DownloadConfig:
    """Return the profile's own size and hash, else those of the first good download."""
    known = lock.get(remote.url, {})
    return DownloadConfig(
        url=remote.url,
        bytes=remote.bytes if remote.bytes is not None else known.get("bytes"),
        sha256=remote.sha256 or known.get("sha256"),
    )
