"""A clone of the repository to work in, with the working tree's changes, and commands in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def clone(folder: Path) -> Path:
    """Clone the repository, with what isn't committed on top, and WordNet if it is there."""
    run(ROOT, "git", "clone", "--quiet", str(ROOT), str(folder))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for key, value in (("user.name", "scratch"), ("user.email", "scratch@example.org")):
        run(folder, "git", "config", key, value)
    commit(folder)
    # WordNet, once found for the main checkout, needs no second download.
    words = ROOT / ".cache" / "abo-vqa" / "nltk_data"
    if words.is_dir():
        shutil.copytree(words, folder / ".cache" / "abo-vqa" / "nltk_data")
    return folder


def commit(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--allow-empty", "-m", "scratch")


def environment(**more: str) -> dict[str, str]:
    """This process's, with the programs of its Python first.

    A clone stands alone: others' tracking and this process's threads stay out of it.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "OMP_NUM_THREADS" and not name.startswith(("MLFLOW_", "DVC_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"DVC_NO_ANALYTICS": "1", "PATH": path} | more


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder.

    Returns:
        Its output.
    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    process = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if process.returncode:
        raise RuntimeError(said(command, process.stdout))
    return process.stdout


def said(command: Sequence[str], output: str) -> str:
    return f"{' '.join(command)}\n{output[-8000:]}"
