"""What of a checkout a session needs: its work, and nothing that is quickly had again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from abo_vqa.core.paths import EMBEDDINGS, PROFILES, VECTORS
from abo_vqa.core.sessions.objects import ObjectStore
from abo_vqa.core.yaml_files import read_yaml

LOCK = Path("dvc.lock")
SCRATCH = Path(".cache/abo-vqa")
MARKER = SCRATCH / "session.json"  # which save this checkout is as new as
# Locks are the machine's. Word lists, images from object storage and vision outputs are had again
# in seconds and minutes, and the latter are larger than all the rest: 13 GB for the study's images.
_ELSEWHERE = ("locks", "nltk_data", "embed", "vectors", "remote", MARKER.name)
_TRACKING = (Path("mlflow.db"), Path("mlartifacts"))
_COMPANIONS = ("-wal", "-shm", "-journal")  # of an SQLite database: a snapshot has their contents
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Outputs:
    """What dvc.lock records of the stages' outputs, as far as it is here.

    Attributes:
        objects: names in DVC's cache, of files and of lists of folders.
        files: outputs that DVC doesn't cache, relative to the checkout.
        paths: outputs that `dvc checkout` can bring back from `objects`.
    """

    objects: tuple[str, ...]
    files: tuple[Path, ...]
    paths: tuple[str, ...]


def work_files(root: Path) -> Iterator[Path]:
    """List journals, checkpoints and MLflow's records, relative to the checkout.

    Args:
        root: the checkout.
    """
    scratch = root / SCRATCH
    tops = sorted(scratch.iterdir()) if scratch.is_dir() else []
    chosen = [top for top in tops if top.name not in _ELSEWHERE]
    locks = sorted((root / PROFILES).glob("*.lock.json"))  # the hashes of the archives
    for top in [*chosen, *(root / name for name in _TRACKING), *locks]:
        for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
            relative = file.relative_to(root)
            # What has a dot in front of its name is being written or removed.
            hidden = any(part.startswith(".") for part in relative.parts[1:])
            if file.is_file() and not hidden and not file.name.endswith((".lock", *_COMPANIONS)):
                yield relative


def outputs(root: Path, cache: ObjectStore, *, embeddings: bool) -> Outputs:
    """List the outputs in dvc.lock that are here: in DVC's cache or, uncached, in the checkout.

    Those of another profile, or of a stage that hasn't run in this checkout, aren't here.

    Args:
        root: the checkout.
        cache: DVC's cache.
        embeddings: whether vision outputs count, too.
    """
    objects: list[str] = []
    files: list[Path] = []
    paths: list[str] = []
    large = () if embeddings else (EMBEDDINGS, VECTORS)
    for output in _recorded(root):
        path, name = Path(output["path"]), str(output["md5"])
        if any(path.is_relative_to(folder) for folder in large):
            continue
        parts = _parts(cache, name)
        if parts and all(map(cache.has, parts)):
            objects += parts
            paths.append(output["path"])
        elif (root / path).is_file() and not name.endswith(".dir"):
            files.append(path)
    return Outputs(tuple(dict.fromkeys(objects)), tuple(files), tuple(paths))


def _recorded(root: Path) -> Iterator[dict[str, str]]:
    """List the outputs that dvc.lock records."""
    if (root / LOCK).is_file():
        for stage in (read_yaml(root / LOCK).get("stages") or {}).values():
            yield from (out for out in stage.get("outs", ()) if "md5" in out)


def _parts(cache: ObjectStore, name: str) -> list[str]:
    """Return the name of an output's contents and, of a folder, those of its files."""
    if not name.endswith(".dir"):
        return [name]
    try:
        listed = json.loads(cache.path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it isn't here
        return []
    return [name, *(str(entry["md5"]) for entry in listed)]


def is_database(file: Path) -> bool:
    """Tell whether a file is an SQLite database.

    Args:
        file: the file.
    """
    with suppress(OSError), file.open("rb") as reader:
        return reader.read(len(_SQLITE)) == _SQLITE
    return False


def snapshot(database: Path, target: Path) -> None:
    """Copy an SQLite database that others may be writing.

    Args:
        database: the database.
        target: the copy.
    """
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
