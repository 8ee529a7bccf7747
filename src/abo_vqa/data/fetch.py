"""Download the real archives, check them against what was recorded, pin them in `data.dvc`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abo_vqa.core.data_config import DataConfig, DownloadConfig
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.paths import DATA_DVC, PROFILES
from abo_vqa.core.remote_pin import RemotePin, is_url, split_raw, url_problem
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


def pin_remote(profile: str) -> Iterator[str]:
    """Pin archives that are read on object storage, where they are.

    Both are opened, which builds their indexes; nothing else is copied. What tells their versions
    apart is written to `data/raw/<profile>/remote.json`, which the stages depend on.

    Args:
        profile: the profile's name; its `data.raw` is a URL.

    Yields:
        Lines for the terminal.

    Raises:
        UserError: An archive is missing or damaged, or may not be read.
        RetryLaterError: The network kept failing; the same command continues.
    """
    from abo_vqa.data.remote_tar import open_remote_tar

    data = _read_data(profile)
    assert data.url is not None  # `has_remote_archives` checked
    objects = {}
    for name in (LISTINGS_TAR, IMAGES_TAR):
        members = open_remote_tar(data.url, name, None)
        objects[name] = state = members.remote.state
        yield (
            f"{members.path}: {state.size:,} bytes, version {state.version or 'unknown'}; "
            f"{len(members.index):,} files"
        )
        members.close()
    path = RemotePin(data.url, objects).save(data.raw)
    yield f"{path} pins them: another version of an archive makes the stages stale."


def has_remote_archives(profile: str) -> bool:
    """Whether a profile's `data.raw` is a URL.

    Args:
        profile: the profile's name; it needn't exist.
    """
    path = PROFILES / f"{profile}.yaml"
    data = read_yaml(path).get("data") if path.is_file() else None
    return isinstance(data, dict) and (is_url(data.get("raw", "")) or "url" in data)


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
        section = split_raw(read_yaml(path).get("data"), profile)
        data = DataConfig.model_validate(section or {})
    except ValidationError as error:
        raise UserError(f"{path}, data: {error}") from error
    if data.url is not None:
        if problem := url_problem(data.url):
            raise UserError(f"{path}, data.raw: {problem}")
        return data
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
