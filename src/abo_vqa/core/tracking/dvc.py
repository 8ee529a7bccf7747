"""Hashes of a stage's inputs and outputs, as DVC will record them: a file leads to its run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from dvc.stage.exceptions import StageFileDoesNotExistError, StageNotFound
from dvc_data.hashfile.build import build


def stage_name(name: str) -> str:
    """Return the name of the stage that runs, as dvc.yaml has it, e.g. "baseline@blip".

    DVC gives the address as it was typed: `../dvc.yaml:split` from a subfolder, although the stage
    stands in the root.

    Args:
        name: the name of a stage that is run by hand.
    """
    address = os.environ.get("DVC_STAGE", "")
    return address.rpartition(":")[2] or name


def hashes(stage: str, outputs: Iterable[str | Path] = ()) -> tuple[dict[str, str], dict[str, str]]:
    """Hash a stage's inputs and outputs as they are now, as dvc.lock will record them.

    Args:
        stage: its name in dvc.yaml.
        outputs: further files or folders, of other stages.

    Returns:
        Tags, `dvc.dep.<path>` and `dvc.out.<path>`; and the further outputs' hashes by path. Both
        are empty for work that isn't a stage of a DVC repository.
    """
    try:
        repository = Repo()
    except NotDvcRepoError:
        return {}, {}
    with repository as repo:
        try:
            (dvc_stage,) = repo.stage.collect(stage)
        except (StageNotFound, StageFileDoesNotExistError):
            return {}, {}
        tags = {
            f"dvc.{kind}.{item.def_path}": _content_hash(repo, item.fs_path, item.fs)
            for kind, items in (("dep", dvc_stage.deps), ("out", dvc_stage.outs))
            for item in items
            # The hash of a whole params.yaml is in no dvc.lock.
            if item.protocol == "local" and item.exists and not isinstance(item, ParamsDependency)
        }
        fs = dvc_stage.outs[0].fs
        known = {
            str(path): _content_hash(repo, str(Path.cwd() / path), fs)
            for path in outputs
            if Path(path).exists()
        }
    return tags, known


def _content_hash(repo: Any, path: str, fs: Any) -> str:
    """Return DVC's hash of a file, or of a folder (it ends in ".dir")."""
    _, _, obj = build(repo.cache.local, path, fs, "md5", ignore=repo.dvcignore, dry_run=True)
    return str(obj.hash_info.value)
