"""What a record is: something to write about a run that may not exist yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from mlflow import MlflowClient

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
