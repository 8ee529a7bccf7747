"""What is to be written into MLflow: plain values, so that they can wait in a file.

A record names its run by a handle that is chosen beforehand; `RunRegistry` knows which run that
became.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mlflow.entities import Metric, Param, RunTag

from abo_vqa.core.tracking import parents, registry, reused
from abo_vqa.core.tracking.file_records import Artifact, Dataset, Model, Table, Text
from abo_vqa.core.tracking.record_base import Record, RunRegistry


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
class Stages(Record):
    """Which stages ran, and which were restored; see `reused.report_stages`.

    Attributes:
        earlier: hash by output of each stage that this one depends on.
    """

    what: ClassVar[str] = "which stages were restored"
    earlier: Mapping[str, Mapping[str, str]]

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        _, parent, experiment = runs.ids[self.run]
        reused.report_stages(runs.client, experiment, parent, self.earlier)


@dataclass(frozen=True)
class RunEnd(Record):
    """The run's end.

    Attributes:
        status: MLflow's word for how it ended.
        line: what the parent's description says about it.
        seconds: how long it took.
        at: milliseconds since 1970.
        result: what came out of the whole invocation, if the run has shown that.
    """

    what: ClassVar[str] = "the run's end"
    status: str
    line: str
    seconds: float
    at: int
    result: str = ""

    def deliver(self, runs: RunRegistry) -> None:
        """Write it; see `Record`."""
        run, parent, _ = runs.ids[self.run]
        how = (self.status, self.line, self.seconds, self.at, self.result)
        parents.close_run(runs.client, run, parent, *how)


_KINDS = {
    kind.__name__: kind
    for kind in (
        *(RunStart, Metrics, Params, Tags, Text, Table, Artifact, Dataset, Model, Result, Stages),
        RunEnd,
    )
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
