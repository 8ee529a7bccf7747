"""What is to be written into MLflow: plain values, so that they can wait in a file.

A record names its run by a handle that is chosen beforehand; `RunRegistry` knows which run that
became.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import mlflow
from mlflow import MlflowClient
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.fingerprints import content_digest, file_md5
from abo_vqa.core.summary import ModelVersionInfo
from abo_vqa.core.tables import read_table
from abo_vqa.core.tracking import parents, registry
from abo_vqa.core.tracking.backend import connect

# Of each a request: MLflow's limits, but of metrics half of it.
_MOST = {"metrics": 500, "params": 100, "tags": 100}


@dataclass
class RunRegistry:
    """Which runs the handles became.

    Attributes:
        ids: the ids of the run, its parent and the experiment, by handle.
    """

    ids: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; created when it is first needed, since that may fail."""
        return connect()

    def log(self, record: Record, kind: str, entities: Sequence[Any]) -> None:
        """Write many values of a record's run.

        Args:
            record: the record they are from.
            kind: "metrics", "params" or "tags".
            entities: MLflow's objects of that kind.
        """
        for start in range(0, len(entities), _MOST[kind]):
            batch = entities[start : start + _MOST[kind]]
            self.client.log_batch(self.of(record), **{kind: batch})

    def of(self, record: Record) -> str:
        """Return the id of the run that a record is about.

        Args:
            record: the record.
        """
        run, parent, _ = self.ids[record.run]
        return parent if record.to_parent else run


@dataclass(frozen=True)
class Record:
    """One thing to write.

    Attributes:
        what: what it is called in a message.
        channel: the part of the store it needs, which may be unusable by itself.
        run: the run's handle.
        to_parent: whether it is about the run's parent instead.
    """

    what: ClassVar[str] = ""
    channel: ClassVar[str] = "database"
    run: str
    to_parent: bool = field(default=False, kw_only=True)

    def deliver(self, runs: RunRegistry) -> None:
        """Write it. Delivering the same record twice does no harm.

        Args:
            runs: the runs that handles stand for.
        """
        raise NotImplementedError

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON; see `from_json`."""
        return {"record": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class RunStart(Record):
    """A new run below its invocation's parent, which is found or created.

    Attributes:
        origin: an `Origin`'s fields.
    """

    what: ClassVar[str] = "the run itself"
    origin: Mapping[str, Any]

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        runs.ids[self.run] = parents.open_run(parents.Origin(**self.origin), self.run)


@dataclass(frozen=True)
class Metrics(Record):
    """Points of metrics' histories.

    Attributes:
        points: name, value, milliseconds since 1970, step.
    """

    what: ClassVar[str] = "metrics"
    points: list[tuple[str, float, int, int]]

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        runs.log(self, "metrics", [Metric(*point) for point in self.points])


@dataclass(frozen=True)
class Params(Record):
    """Settings, which in MLflow never change.

    Attributes:
        values: texts by name.
    """

    what: ClassVar[str] = "settings"
    values: Mapping[str, str]

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        runs.log(self, "params", [Param(key, value) for key, value in self.values.items()])


@dataclass(frozen=True)
class Tags(Record):
    """Tags of a run.

    Attributes:
        values: texts by name.
    """

    what: ClassVar[str] = "tags"
    values: Mapping[str, str]

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        runs.log(self, "tags", [RunTag(key, value) for key, value in self.values.items()])


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
        table = mlflow.data.from_pandas(
            read_table(path),
            source=LocalArtifactDatasetSource(self.source),
            name=path.stem,
            digest=file_md5(path),
        )
        tag = InputTag("mlflow.data.context", self.context)
        runs.client.log_inputs(runs.of(self), [DatasetInput(table._to_mlflow_entity(), [tag])])


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


@dataclass(frozen=True)
class Result(Record):
    """What became known about an earlier stage's output.

    Attributes:
        output: its path.
        digest: its hash.
        metrics: the numbers.
    """

    what: ClassVar[str] = "results of earlier runs"
    output: str
    digest: str
    metrics: Mapping[str, float]

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        experiment = runs.ids[self.run][2]
        registry.add_result(runs.client, experiment, self.output, self.digest, self.metrics)


@dataclass(frozen=True)
class RunEnd(Record):
    """The run's end.

    Attributes:
        status: MLflow's word for how it ended.
        line: what the parent's description says about it.
        seconds: how long it took.
        at: milliseconds since 1970.
    """

    what: ClassVar[str] = "the run's end"
    status: str
    line: str
    seconds: float
    at: int

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        run, parent, _ = runs.ids[self.run]
        parents.close_run(runs.client, run, parent, self.status, self.line, self.seconds, self.at)


_KINDS = {
    kind.__name__: kind
    for kind in (RunStart, Metrics, Params, Tags, Text, Artifact, Dataset, Model, Result, RunEnd)
}
# What 0.2.0 called them in the files that it left for later.
_KINDS |= {"Opening": RunStart, "Ending": RunEnd}


def from_json(value: Mapping[str, Any]) -> Record:
    """Return the record that `as_json` wrote.

    Args:
        value: the JSON.
    """
    fields = dict(value)
    return _KINDS[fields.pop("record")](**fields)
