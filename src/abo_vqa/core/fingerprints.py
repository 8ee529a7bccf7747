"""Digests of values, files and our own code, for cache keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml


def fingerprint(value: Any) -> str:
    """Hash a value: 16 hex digits of the SHA-256 of its canonical JSON.

    Args:
        value: anything that JSON can hold; other objects count by their `str`.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_pieces(pieces: Iterable[Any]) -> str:
    """Hash what doesn't fit into memory as JSON: 16 hex digits, which depend on the pieces.

    Args:
        pieces: see `fingerprint`.
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(fingerprint(piece).encode())
    return digest.hexdigest()[:16]


def file_md5(path: str | Path) -> str:
    """Hash a file's bytes with MD5, as DVC records it.

    Args:
        path: the file; of a folder, such as a large table's, the MD5 of DVC's list of its files,
            with DVC's ".dir" behind it.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted((f.relative_to(path).parts, f) for f in path.rglob("*") if f.is_file())
        listed = [{"md5": file_md5(file), "relpath": "/".join(parts)} for parts, file in files]
        return hashlib.md5(json.dumps(listed).encode()).hexdigest() + ".dir"
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


@cache
def stage_code(stage: str) -> dict[str, str]:
    """Hash the source files that a stage's results depend on, for its journal's key.

    dvc.yaml lists them, so whatever makes DVC run a stage again also starts its journal anew.

    Args:
        stage: its name in dvc.yaml; of a matrix, or of a foreach,
            without the part after the @.

    Returns:
        MD5 by path below src. Without a dvc.yaml beside the sources (the package was installed from
        a wheel), of every source file.
    """
    source = Path(__file__).parents[2]
    listed = source.parent / "dvc.yaml"
    parts = ["src/abo_vqa"]
    if listed.is_file():
        entry = yaml.safe_load(listed.read_text(encoding="utf-8"))["stages"][stage]
        deps = entry.get("do", entry)["deps"]
        parts = [dep for dep in deps if dep.startswith("src/")]
    places = [source / part.removeprefix("src/") for part in parts]
    files = [f for place in places for f in (sorted(place.rglob("*.py")) or [place])]
    return {f.relative_to(source).as_posix(): file_md5(f) for f in files}


def content_digest(path: Path) -> str:
    """Hash a file, or all files of a folder with their names.

    Args:
        path: the file or folder.
    """
    if path.is_file():
        return file_md5(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return fingerprint([(str(f.relative_to(path)), file_md5(f)) for f in files])
