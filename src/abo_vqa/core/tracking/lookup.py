"""From a file to the run that made it, by its content, and from a run to its files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.tracking.dvc import DEPS, MEMBERS, OUT, content_hash

_PAGE = 1000
_SHORTEST_ID = 6  # digits of a run's id that are taken for its beginning


@dataclass(frozen=True)
class Match:
    """A run that made some content.

    Attributes:
        run: the run.
        output: the stage's output that is, or holds, the content.
        member: the file's name within that folder; "" if the content is the whole output.
    """

    run: Run
    output: str
    member: str = ""


class RunIndex:
    """All runs of an experiment, newest first.

    Args:
        client: MLflow's client.
        experiment: the experiment's id.

    Attributes:
        runs: the runs.
    """

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self._client = client
        self.runs: list[Run] = []
        token = None
        while True:
            page = client.search_runs([experiment], max_results=_PAGE, page_token=token)
            self.runs += page
            token = page.token
            if not token:
                return

    def makers(self, digest: str) -> list[Match]:
        """Find the runs whose outputs have some content, or hold it.

        Args:
            digest: DVC's hash of it.

        Returns:
            The matches, newest first; outputs as such before files of folders.
        """
        outs = [
            (run, path, value) for run in self.runs for path, value in output_digests(run).items()
        ]
        if whole := [Match(run, path) for run, path, value in outs if value == digest]:
            return whole
        # Most runs made the same folders as another one: each is listed once.
        folders = {value: (run, path) for run, path, value in outs if value.endswith(".dir")}
        listings = self._listings(folders)
        return [
            Match(run, path, name)
            for run, path, value in outs
            for name, md5 in listings.get(value, {}).items()
            if md5 == digest
        ]

    def readers(self, digest: str) -> list[Run]:
        """Find the runs that read some content.

        Args:
            digest: DVC's hash of it.
        """
        return [run for run in self.runs if digest in input_digests(run).values()]

    def find(self, name: str) -> list[Run]:
        """Find runs by id, its beginning, or name; newest first.

        Args:
            name: the id or name.
        """
        if named := [run for run in self.runs if run.info.run_name == name]:
            return named
        if not re.fullmatch(r"[0-9a-f]+", name) or len(name) < _SHORTEST_ID:
            return []
        return [run for run in self.runs if run.info.run_id.startswith(name)]

    def children(self, run: Run) -> list[Run]:
        """Return an invocation's stages in the order in which they ran.

        Args:
            run: the invocation's run.
        """
        parent = run.info.run_id
        stages = [r for r in self.runs if r.data.tags.get("mlflow.parentRunId") == parent]
        return sorted(stages, key=lambda run: run.info.start_time)

    def parent(self, run: Run) -> Run | None:
        """Return the invocation that a run belongs to.

        Args:
            run: a stage's run.
        """
        number = run.data.tags.get("mlflow.parentRunId")
        return next((r for r in self.runs if r.info.run_id == number), None)

    def _listings(self, folders: Mapping[str, tuple[Run, str]]) -> dict[str, dict[str, str]]:
        """Return the MD5 by name of folders' files, from DVC's cache or a run's artifacts.

        Args:
            folders: for each folder's hash, a run that wrote it, and its path.
        """
        cached = _cached_listings(folders)
        return {
            digest: cached[digest] if digest in cached else self._artifact_listing(*place)
            for digest, place in folders.items()
        }

    def _artifact_listing(self, run: Run, path: str) -> dict[str, str]:
        with suppress(MlflowException, OSError, ValueError):  # gone, or recorded before 0.3
            text = Path(self._client.download_artifacts(run.info.run_id, MEMBERS)).read_text()
            return dict(json.loads(text).get(path, {}))
        return {}


def _cached_listings(digests: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return what DVC's cache lists for folders, as far as it has them."""
    listings: dict[str, dict[str, str]] = {}
    with suppress(NotDvcRepoError), Repo() as repo:
        for digest in digests:
            file = Path(repo.cache.local.oid_to_path(digest))
            with suppress(OSError, ValueError):
                entries = json.loads(file.read_text(encoding="utf-8"))
                listings[digest] = {entry["relpath"]: entry["md5"] for entry in entries}
    return listings


def output_digests(run: Run) -> dict[str, str]:
    """Return the hash by path of what a run wrote.

    Args:
        run: the run.
    """
    tags = run.data.tags
    return {key.removeprefix(OUT): tags[key] for key in tags if key.startswith(OUT)}


def input_digests(run: Run) -> dict[str, str]:
    """Return the hash by path of what a run read.

    Args:
        run: the run; one of an earlier release has a tag for each.
    """
    tags, old = run.data.tags, "dvc.dep."
    pairs = dict(reversed(line.split(" ", 1)) for line in tags.get(DEPS, "").splitlines())
    return {key.removeprefix(old): tags[key] for key in tags if key.startswith(old)} | pairs


def hash_of(path: Path) -> str:
    """Return DVC's hash of any file or folder.

    Args:
        path: the file or folder.

    Raises:
        UserError: it is a folder, and this isn't a DVC repository.
    """
    if path.is_file():
        return file_md5(path)
    try:
        return content_hash(path)
    except NotDvcRepoError as error:
        raise UserError(
            f"{path} is a folder, and {Path.cwd()} isn't in a DVC repository, whose rules say "
            "which of its files count. Run this in the checkout."
        ) from error


def versions(client: MlflowClient, run: Run) -> Iterator[dict[str, Any]]:
    """Describe the model versions that a run registered.

    Args:
        client: MLflow's client.
        run: the run.

    Yields:
        Name, version and aliases.
    """
    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        aliases: Sequence[str] = client.get_model_version(version.name, version.version).aliases
        yield {
            "name": version.name,
            "version": str(version.version),
            "aliases": sorted(aliases),
        }
