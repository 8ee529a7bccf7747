"""`abo-vqa session`: work on machines that end: save it elsewhere, restore it in a new clone."""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from dvc.repo import Repo

from abo_vqa.commands.session_runs import run_limited
from abo_vqa.core.errors import UserError
from abo_vqa.core.scratch import project_root
from abo_vqa.core.sessions.manifest import Manifest
from abo_vqa.core.sessions.objects import ObjectStore
from abo_vqa.core.sessions.restoring import restore_session
from abo_vqa.core.sessions.saving import save_session
from abo_vqa.core.tracking.origin import git_commit
from abo_vqa.core.units import format_bytes

_EMBEDDINGS = "save vision outputs, too (the study's: 13 GB); without, their stage runs again"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    words = parser.add_subparsers(dest="action", required=True, metavar="save|restore|run")
    save = words.add_parser("save", help="save this checkout's work to a folder")
    restore = words.add_parser("restore", help="bring it back, usually into a new clone")
    restore.add_argument(
        "--force", action="store_true", help="replace work that this checkout has of its own"
    )
    run = words.add_parser(
        "run",
        help="run a command, save every few minutes, and stop in time",
        usage="abo-vqa session run [--hours H] [--every MINUTES] [--embeddings] DIR COMMAND ...",
    )
    run.add_argument(
        "--hours",
        type=_positive,
        metavar="H",
        help="stop the command after so long (default: never)",
    )
    run.add_argument(
        "--every", type=_positive, default=10.0, metavar="MINUTES", help="default: %(default)s"
    )
    for one in (save, restore, run):
        one.add_argument(
            "folder", type=Path, metavar="DIR", help="on a disk that outlives this one"
        )
    for one in (save, run):
        one.add_argument("--embeddings", action="store_true", help=_EMBEDDINGS)
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="e.g. dvc repro")


def command(args: argparse.Namespace) -> int:
    """Save, restore, or run a command and save.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    folder = args.folder.absolute()
    root = project_root()
    os.chdir(root)
    with Repo(str(root)) as repo:
        dvc_cache = ObjectStore(Path(repo.cache.local.path).parents[1])
    if args.action == "restore":
        return _restore(folder, dvc_cache, force=args.force)
    save = partial(_save, folder, dvc_cache, embeddings=args.embeddings)
    if args.action == "save":
        save()
        return 0
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words or words[0].startswith("-"):
        raise UserError(
            f"expected a command behind the folder, found {words[:1] or 'nothing'}. Options come "
            "first: abo-vqa session run --hours 8.5 DIR dvc repro"
        )
    return run_limited(words, save, args.hours, args.every)


def _positive(text: str) -> float:
    """Parse a positive number, for argparse's `type`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}; a number above 0, e.g. 8.5")
    return value


def _save(folder: Path, dvc_cache: ObjectStore, *, embeddings: bool) -> None:
    """Save, and say what."""
    manifest = save_session(Path(), folder, dvc_cache, git_commit(), embeddings=embeddings)
    print(f"saved to {folder} ({_describe(manifest, folder)})", flush=True)


def _describe(manifest: Manifest, folder: Path) -> str:
    """Say how much a save holds."""
    store = ObjectStore(folder)
    size = sum(store.path(name).stat().st_size for name in manifest.names() if store.has(name))
    return f"save {manifest.number}, {len(manifest.names()):,} files, {format_bytes(size)}"


def _restore(folder: Path, dvc_cache: ObjectStore, *, force: bool) -> int:
    """Restore, and have DVC put the outputs in their places."""
    manifest = restore_session(Path(), folder, dvc_cache, force=force)
    if manifest is None:
        print(f"nothing to restore: this checkout is as new as {folder}")
        return 0
    if manifest.outputs:
        words = ["checkout", "--quiet", "--force", *manifest.outputs]
        process = subprocess.run(
            [sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False
        )
        if process.returncode:
            raise UserError(
                "everything is copied, but `dvc checkout` failed; run it again:\n"
                f"{process.stderr.strip()}"
            )
    print(f"restored from {folder} ({_describe(manifest, folder)}, {manifest.saved_at})")
    if manifest.commit and manifest.commit != git_commit():
        print(
            f"It was saved at commit {manifest.commit[:12]}: stages whose sources or settings have "
            "changed since run again."
        )
    return 0
