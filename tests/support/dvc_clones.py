"""Clones of this repository with outputs of every stage in DVC's cache, in seconds.

What stages write is a stand-in with the right names, put on record by `dvc commit`: DVC knows
outputs by their hashes and never looks into them. Stages run on top of that for real.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from unittest import mock

import yaml
from dvc.cli import main
from helpers import scratch
from helpers.scratch import run
from PIL import Image

FUNNEL = Path("data/funnel.json")


def make(folder: Path) -> Path:
    """The clone, committed, with a remote `team` beside it."""
    scratch.clone(folder)
    _forget_history(folder)
    call(folder, "pull", "-q", "--remote", "sample", "data/raw/sample", "models/sample")
    (folder / "data/raw/abo").mkdir()
    project = yaml.safe_load((folder / "dvc.yaml").read_text())
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    for stage in lock.values():
        for out in stage["outs"]:
            _stand_in(folder / out["path"])
    for stage in lock.values():  # what is within another stage's folder
        for dep in stage["deps"]:
            if not (folder / dep["path"]).exists():
                _stand_in(folder / dep["path"])
    _draw(folder, project["plots"])
    call(folder, "commit", "-q", "--force")
    call(folder, "remote", "add", "-q", "team", str(folder.parent / "remote"))
    scratch.commit(folder)
    return folder


def call(folder: Path, *words: str) -> str:
    """Run DVC in this process, which has loaded it, and return what it prints."""
    printed = io.StringIO()
    alone = mock.patch.dict(os.environ, scratch.environment(), clear=True)
    with alone, contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        code = main(list(words))
    assert code == 0, f"dvc {' '.join(words)}\n{printed.getvalue()}"
    return printed.getvalue()


def commit_users(folder: Path, stage: str) -> None:
    """After a stage ran: put on record that the stages which read its outputs needn't."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    outs = {out["path"] for out in lock[stage]["outs"]}
    users = [name for name in lock if outs & {dep["path"] for dep in lock[name]["deps"]}]
    call(folder, "commit", "-q", "--force", *users)


def _forget_history(folder: Path) -> None:
    """Keep a single commit: `dvc gc --all-commits` takes a second for each there is."""
    run(folder, "git", "checkout", "--quiet", "--orphan", "only")
    run(folder, "git", "commit", "--quiet", "-m", "everything")
    run(folder, "git", "branch", "--quiet", "--move", "--force", "main")
    run(folder, "git", "remote", "remove", "origin")
    for tag in run(folder, "git", "tag").split():
        run(folder, "git", "tag", "--delete", tag)


def _stand_in(path: Path) -> None:
    """Make a file or a folder with one, unless Git has it."""
    if path.is_file() or (path.is_dir() and any(path.glob("[!.]*"))):
        return
    file = path if path.suffix else path / "part"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"stand-in for {path.name}\n")


def _draw(folder: Path, plots: list) -> None:
    """The files that dvc.yaml's plots name."""
    for plot in plots:
        if isinstance(plot, str):
            (folder / plot).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), "white").save(folder / plot)
            continue
        (settings,) = plot.values()
        ((path, y),) = settings["y"].items()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{settings['x']},{y}\n1,2\n2,3\n")


def second(clone: Path, folder: Path) -> Path:
    """A clone of a clone, as a colleague has it: with Git's files only."""
    run(clone.parent, "git", "clone", "--quiet", str(clone), str(folder))
    return folder


def funnel(folder: Path) -> dict:
    return json.loads((folder / FUNNEL).read_text())


def objects(folder: Path) -> set[str]:
    """The hashes that a cache or a remote has."""
    files = folder / "files/md5"
    return {f"{path.parent.name}{path.name}" for path in files.glob("*/*")}
