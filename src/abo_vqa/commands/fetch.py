"""Fetch the real archives, check them against what was recorded, pin them in `data.dvc`.

The first good download records size and SHA-256 in `conf/profiles/<profile>.lock.json`; committed,
it makes every later download the same bytes, or a message that says why not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abo_vqa.config import DataConfig, DownloadConfig, read_yaml
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.paths import DATA_DVC, PROFILES
from abo_vqa.core.scratch import project_root
from abo_vqa.data.archive import IMAGES_TAR, LISTINGS_TAR
from abo_vqa.data.download import RetryPolicy, download_archive


def _read_data(profile: str) -> DataConfig:
    """The `data` section of a profile, whatever profile params.yaml names.

    Raises:
        UserError: there is no such profile, or it names nothing to download.
    """
    path = PROFILES / f"{profile}.yaml"
    try:
        data = DataConfig.model_validate(read_yaml(path).get("data") or {})
    except ValidationError as error:
        raise UserError(f"{path}, data: {error}") from error
    if data.listings is None or data.images is None:
        raise UserError(f"{path} names no archives to download (data.listings, data.images).")
    return data


def _recorded(remote: DownloadConfig, lock: Mapping[str, Any]) -> DownloadConfig:
    """The profile's own size and hash, else those of the first good download."""
    known = lock.get(remote.url, {})
    return DownloadConfig(
        url=remote.url,
        bytes=remote.bytes if remote.bytes is not None else known.get("bytes"),
        sha256=remote.sha256 or known.get("sha256"),
    )


def fetch(profile: str, folder: Path | None, patience: RetryPolicy) -> list[Path]:
    """Download both archives of a profile and record their hashes.

    Args:
        folder: where to; None for the profile's own folder.
    Returns:
        the two files.
    """
    data = _read_data(profile)
    folder = folder or data.raw
    lock_path = PROFILES / f"{profile}.lock.json"
    lock = dict(read_json(lock_path)) if lock_path.exists() else {}
    print(f"{data.attribution.strip()}\nLicence: {data.licence}")
    files = []
    for name, remote in ((LISTINGS_TAR, data.listings), (IMAGES_TAR, data.images)):
        assert remote is not None  # read_data checked
        found = download_archive(_recorded(remote, lock), folder / name, patience)
        known = {"bytes": found.bytes, "sha256": found.sha256}
        if lock.get(remote.url) != known:
            lock[remote.url] = known
            write_json(lock, lock_path)
        print(f"{folder / name}: {found.bytes:,} bytes, SHA-256 {found.sha256}")
        files.append(folder / name)
    return files


def _pin() -> None:
    """Record the downloaded files in data.dvc.

    DVC copies them into its cache. Where the file system has reflinks, or `cache.type` is hardlink,
    the disk holds them once.

    Raises:
        UserError: DVC couldn't; the files are there all the same.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", "--quiet", str(DATA_DVC)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(
            f"the archives are here, but `dvc commit {DATA_DVC}` failed:\n{done.stderr.strip()}"
        )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="abo", help="whose archives (%(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="another folder; nothing is pinned in data.dvc"
    )


def command(args: argparse.Namespace) -> int:
    folder = args.out.resolve() if args.out else None
    os.chdir(project_root())
    fetch(args.profile, folder, RetryPolicy())
    if args.out is None and DATA_DVC.exists():
        _pin()
        print(f"{DATA_DVC} now pins them; commit it, and {PROFILES / args.profile}.lock.json.")
    print(f"Use them: set `profile: {args.profile}` in params.yaml, then `dvc repro`.")
    return 0
