"""Hashes of a stage's inputs and outputs, as DVC will record them: a file leads to its run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from dvc.stage.exceptions import StageFileDoesNotExistError, StageNotFound
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree

OUT = "dvc.out."  # starts the tag of an output; its path follows
DEPS = "dvc.deps"  # one tag for all inputs, a line each: they would fill the browser's columns
MEMBERS = "dvc/outputs.json"  # the artifact that lists the files of folders
_LONGEST_TAG = 8000  # MLflow's limit


@dataclass(frozen=True)
class StageFiles:
    """What DVC knows of a stage.

    Attributes:
        deps: hash by path of what it reads.
        outs: hash by path of what it writes.
        members: MD5 by name of the files of each folder that it writes.
        others: hash by path of what was asked for besides.
        earlier: hash by path of the outputs of every stage that it depends on.
    """

    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """Return the hashes as tags of a run."""
        lines, length = [], 0
        for path, digest in self.deps.items():
            lines.append(f"{digest} {path}")
            length += len(lines[-1]) + 1
            if length > _LONGEST_TAG:  # whole lines only
                lines.pop()
                break
        tags = {f"{OUT}{path}": digest for path, digest in self.outs.items()}
        return tags | ({DEPS: "\n".join(lines)} if lines else {})


def stage_name(name: str) -> str:
    """Return the name of the stage that runs, as dvc.yaml has it, e.g. "baseline@blip".

    DVC gives the address as it was typed: `../dvc.yaml:split` from a subfolder, although the stage
    stands in the root.

    Args:
        name: the name of a stage that is run by hand.
    """
    address = os.environ.get("DVC_STAGE", "")
    return address.rpartition(":")[2] or name


def stage_files(stage: str, others: Iterable[str | Path] = ()) -> StageFiles:
    """Hash a stage's inputs and outputs as they are now, as dvc.lock will record them.

    Args:
        stage: its name in dvc.yaml.
        others: further files or folders, of other stages.

    Returns:
        The hashes; empty for work that isn't a stage of a DVC repository.
    """
    try:
        repository = Repo()
    except NotDvcRepoError:
        return StageFiles()
    with repository as repo:
        try:
            (dvc_stage,) = repo.stage.collect(stage)
        except (StageNotFound, StageFileDoesNotExistError):
            return StageFiles()
        deps = {
            item.def_path: _content(repo, item.fs_path, item.fs)[0]
            for item in dvc_stage.deps
            # The hash of a whole params.yaml is in no dvc.lock.
            if item.protocol == "local" and item.exists and not isinstance(item, ParamsDependency)
        }
        outs, members = {}, {}
        for item in dvc_stage.outs:
            if item.protocol == "local" and item.exists:
                outs[item.def_path], files = _content(repo, item.fs_path, item.fs)
                if files:
                    members[item.def_path] = files
        fs = dvc_stage.outs[0].fs
        known = {
            str(path): _content(repo, str(Path.cwd() / path), fs)[0]
            for path in others
            if Path(path).exists()
        }
        return StageFiles(deps, outs, members, known, _earlier_stages(repo, dvc_stage))


def _earlier_stages(repo: Any, stage: Any) -> dict[str, dict[str, str]]:
    """Return the outputs of all stages that a stage depends on, as dvc.lock has them."""
    graph, todo, reached = repo.index.graph, [stage], {stage}
    while todo:
        new = set(graph.successors(todo.pop())) - reached
        reached |= new
        todo += new
    earlier = {}
    for other in reached - {stage}:
        name = getattr(other, "name", None)  # a file of `dvc add` has none
        outs = {out.def_path: str(out.hash_info.value) for out in other.outs if out.hash_info}
        if name and outs:
            earlier[str(name)] = outs
    return dict(sorted(earlier.items()))


def content_hash(path: Path) -> str:
    """Return DVC's hash of any file or folder.

    Args:
        path: the file or folder; it needn't be tracked, nor in the repository.

    Raises:
        NotDvcRepoError: this isn't a DVC repository.
    """
    with Repo() as repo:
        return _content(repo, str(path.absolute()), repo.cache.local.fs)[0]


def _content(repo: Any, path: str, fs: Any) -> tuple[str, dict[str, str]]:
    """Return DVC's hash of a file or folder (it ends in ".dir"), and a folder's files by name."""
    _, _, obj = build(repo.cache.local, path, fs, "md5", ignore=repo.dvcignore, dry_run=True)
    files = (
        {"/".join(key): str(digest.value) for key, _, digest in obj if digest}
        if isinstance(obj, Tree)
        else {}
    )
    return str(obj.hash_info.value), files
