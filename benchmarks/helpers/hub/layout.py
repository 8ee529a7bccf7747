"""What a repository of the model hub holds, and where the hub's cache keeps it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.hub.tensors import Noise, Tensor, write_pickle, write_safetensors, write_shards


@dataclass(frozen=True)
class Repository:
    """The files of a repository at one revision.

    Attributes:
        files: contents by name: text, or what is written as JSON.
        tensors: the weights under the names they are stored by.
        weights: the file they are in; with several shards, the names follow the hub's pattern.
    """

    files: Mapping[str, Any]
    tensors: list[Tensor]
    dtype: str = "float32"
    weights: str = "model.safetensors"
    shards: int = 1

    @property
    def bytes(self) -> int:
        """What the weights take, without the headers of their files."""
        return sum(tensor.bytes(self.dtype) for tensor in self.tensors)


def snapshot(home: Path, path: str, revision: str) -> Path:
    """The folder in which the hub's cache, at HF_HOME, keeps a revision of a repository."""
    return home / "hub" / f"models--{path.replace('/', '--')}" / "snapshots" / revision


def write(home: Path, path: str, revision: str, repository: Repository) -> Path:
    """Put a repository into the cache unless that revision is there; half of one never is."""
    folder = snapshot(home, path, revision)
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f"{revision}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_folder(unfinished, repository)
    unfinished.rename(folder)
    refs = folder.parent.parent / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(revision, encoding="utf-8")
    return folder


def write_folder(folder: Path, repository: Repository) -> None:
    """Write a repository's files and weights into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in repository.files.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        (folder / name).write_text(text, encoding="utf-8")
    write_weights(folder, repository)


def write_weights(folder: Path, repository: Repository) -> None:
    tensors, dtype, noise = repository.tensors, repository.dtype, Noise()
    if repository.shards > 1:
        write_shards(folder, tensors, dtype, repository.shards, noise)
    elif repository.weights.endswith(".bin"):
        write_pickle(folder / repository.weights, tensors, dtype, noise)
    else:
        write_safetensors(folder / repository.weights, tensors, dtype, noise)
