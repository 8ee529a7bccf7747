"""`abo-vqa fetch`: download the real archives, check them, pin them in `data.dvc` (make abo)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import DATA, DATA_DVC, PROFILES
from abo_vqa.core.profiles import base_profile
from abo_vqa.core.scratch import project_root
from abo_vqa.data.download import RetryPolicy
from abo_vqa.data.fetch import fetch_archives, has_remote_archives, pin_archives, pin_remote

_PINNED_PROFILE = "abo"  # data.dvc pins its folder


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--profile",
        default=_PINNED_PROFILE,
        help="the profile whose archives to download, or to pin where data.raw is a URL "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="another folder; nothing is pinned in data.dvc"
    )


def command(args: argparse.Namespace) -> int:
    """Download and pin the archives.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    folder = args.out.resolve() if args.out else None
    os.chdir(project_root())
    # A profile that extends another one has its archives, and what is recorded about them.
    if has_remote_archives(args.profile):
        return _pin(args.profile, folder)
    file = PROFILES / f"{args.profile}.yaml"
    profile = base_profile(file) if file.is_file() else args.profile
    for line in fetch_archives(profile, folder, RetryPolicy()):
        print(line)
    if args.out is None and DATA_DVC.exists():
        pin_archives()
        print(f"{DATA_DVC} now pins them; commit it, and {PROFILES / profile}.lock.json.")
    print(f"Use them: set `profile: {args.profile}` in params.yaml, then `dvc repro`.")
    return 0


def _pin(profile: str, folder: Path | None) -> int:
    """Pin archives that stay where they are."""
    if folder is not None:
        raise UserError(
            f"--out: the archives of the profile {profile} are read where they are, and not "
            "copied. Without --out, the command pins them."
        )
    for line in pin_remote(profile):
        print(line)
    raw = DATA / "raw" / profile
    if profile == _PINNED_PROFILE and DATA_DVC.exists():
        pin_archives()
        print(f"{DATA_DVC} now pins that file; commit it.")
    else:
        print(f"For other clones and experiments: `dvc add {raw}`, and commit {raw}.dvc.")
    print(f"Use them: set `profile: {profile}` in params.yaml, then `dvc repro`.")
    return 0
