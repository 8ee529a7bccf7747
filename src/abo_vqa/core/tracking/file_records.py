"""Records that become files of a run: texts, tables, artifacts, datasets, the registered model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import mlflow
import pandas as pd
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag

from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.fingerprints import content_digest, file_md5
from abo_vqa.core.summary import ModelVersionInfo
from abo_vqa.core.tables import iter_table
from abo_vqa.core.tracking import registry
from abo_vqa.core.tracking.record_base import Record, RunRegistry


@dataclass(frozen=True)
class Text(Record):
    """A text that is too long for a parameter, as a file of the run.

    Attributes:
        file: the artifact's path.
        text: its content.
    """

    what: ClassVar[str] = "texts"
    channel: ClassVar[str] = "files"
    file: str
    text: str

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        runs.client.log_text(runs.of(self), self.text, self.file)


@dataclass(frozen=True)
class Table(Record):
    """A small table that the browser shows; MLflow calls it a table artifact.

    Attributes:
        file: the artifact's path.
        columns: values by column.
    """

    what: ClassVar[str] = "tables"
    channel: ClassVar[str] = "files"
    file: str
    columns: Mapping[str, Sequence[Any]]

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`. MLflow would append to a table that is there already."""
        run = runs.of(self)
        logged = json.loads(runs.client.get_run(run).data.tags.get("mlflow.loggedArtifacts", "[]"))
        if self.file not in {artifact["path"] for artifact in logged}:
            runs.client.log_table(run, pd.DataFrame(dict(self.columns)), self.file)


class OutdatedRecordError(AboVqaError):
    """A record that another version left for later can't be delivered."""


class FileChangedError(AboVqaError):
    """A file isn't what was to be recorded any more: it has changed, or is gone."""


@dataclass(frozen=True)
class _FileRecord(Record):
    """A record about a file or folder.

    Attributes:
        path: the file or folder.
        digest: its content's, once the record has to wait.
    """

    path: str
    digest: str = field(default="", kw_only=True)

    def check(self) -> Path:
        """Return the path if its content is what it was.

        Raises:
            FileChangedError: It isn't.
        """
        path = Path(self.path)
        if not path.exists():
            raise FileChangedError(f"{path} isn't there any more")
        if self.digest and content_digest(path) != self.digest:
            raise FileChangedError(f"{path} has changed since")
        return path

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, with a digest of the content."""
        path = Path(self.path).absolute()
        digest = self.digest or content_digest(path)
        return {**super().as_json(), "path": str(path), "digest": digest}


@dataclass(frozen=True)
class Artifact(_FileRecord):
    """A file or folder to keep with the run."""

    what: ClassVar[str] = "artifacts"
    channel: ClassVar[str] = "files"

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        path = self.check()
        if path.is_dir():
            runs.client.log_artifacts(runs.of(self), str(path), path.name)
        else:
            runs.client.log_artifact(runs.of(self), str(path))


@dataclass(frozen=True)
class Dataset(_FileRecord):
    """A table with DVC's MD5 as its digest, so that a run leads to the exact file.

    Attributes:
        context: what it is used for ("training", …).
        source: its path in the repository.
    """

    what: ClassVar[str] = "datasets"
    context: str
    source: str

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        path = self.check()
        pieces = iter_table(path)
        first = next(pieces)
        table = mlflow.data.from_pandas(
            first,
            source=LocalArtifactDatasetSource(self.source),
            name=path.stem,
            digest=file_md5(path),
        )._to_mlflow_entity()
        rows = len(first) + sum(map(len, pieces))  # MLflow would have the whole table in memory
        size = {"num_rows": rows, "num_elements": rows * first.shape[1]}
        known = dict(table)
        whole = MlflowDataset(**known | {"profile": json.dumps(size)})
        tag = InputTag("mlflow.data.context", self.context)
        runs.client.log_inputs(runs.of(self), [DatasetInput(whole, [tag])])


@dataclass(frozen=True)
class Model(_FileRecord):
    """An adapter to register; see `registry.register`.

    Attributes:
        about: a `ModelVersionInfo`'s fields.
    """

    what: ClassVar[str] = "the registered model"
    channel: ClassVar[str] = "files"
    about: Mapping[str, Any]

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        run, _, experiment = runs.ids[self.run]
        try:
            info = ModelVersionInfo(**self.about)
        except TypeError as error:
            raise OutdatedRecordError(
                "another version of abo-vqa left it and described models differently; `dvc repro "
                "--force --single-item finetune` registers the adapter"
            ) from error
        registry.register(runs.client, run, experiment, self.check(), info)
