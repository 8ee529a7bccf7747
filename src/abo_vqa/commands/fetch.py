"""`abo-vqa fetch`: download the real archives, check them, pin them in `data.dvc` (make abo)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from abo_vqa.core.paths import DATA_DVC, PROFILES
from abo_vqa.core.profiles import base_profile
from abo_vqa.core.scratch import project_root
from abo_vqa.data.download import RetryPolicy
from abo_vqa.data.fetch import fetch_archives, pin_archives


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--profile",
        default="abo",
        help="the profile whose archives to download (default: %(default)s)",
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
    file = PROFILES / f"{args.profile}.yaml"
    profile = base_profile(file) if file.is_file() else args.profile
    for line in fetch_archives(profile, folder, RetryPolicy()):
        print(line)
    if args.out is None and DATA_DVC.exists():
        pin_archives()
        print(f"{DATA_DVC} now pins them; commit it, and {PROFILES / profile}.lock.json.")
    print(f"Use them: set `profile: {args.profile}` in params.yaml, then `dvc repro`.")
    return 0
