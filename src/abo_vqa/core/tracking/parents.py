"""Runs in MLflow: an invocation's parent, a stage below it, and what a killed process left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag

from abo_vqa.core.tracking.addresses import lock_file
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.experiment import prepare
from abo_vqa.core.tracking.origin import process_has_ended

NOTE = "mlflow.note.content"
_RESULT = "abo_vqa.result"  # the parent's tag with what its description starts with
_STOPPED = ("KILLED", "FAILED")


@dataclass(frozen=True)
class Origin:
    """All that a new run and its parent start with.

    Attributes:
        experiment: the experiment's name.
        key: the invocation's, by which a parent is found again.
        parent_name: what the parent is called.
        name: what the run is called.
        at: when it began, in milliseconds since 1970.
        work: the same for runs that do the same work: one may continue where another stopped.
        note: the first lines of the parent's description.
        tags: the run's.
        parent_tags: the parent's.
    """

    experiment: str
    key: str
    parent_name: str
    name: str
    at: int
    work: str = ""
    note: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    parent_tags: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self)


def open_run(origin: Origin, handle: str) -> tuple[str, str, str]:
    """Create a run below its parent.

    Args:
        origin: what it starts with.
        handle: marks the run, so that another attempt doesn't create it again.

    Returns:
        The ids of the run, its parent and the experiment.
    """
    experiment = prepare(origin.experiment)
    client = connect()
    _close_abandoned_runs(client, experiment)
    parent = _parent_run(client, experiment, origin)
    if run := newest_run(client, experiment, {"abo_vqa.handle": handle}):
        # It was created by an attempt that failed afterwards.
        return str(run.info.run_id), parent, experiment
    tags = {"mlflow.parentRunId": parent, "abo_vqa.handle": handle, **origin.tags}
    if origin.work:
        tags["abo_vqa.work"] = origin.work
        if before := _stopped_run(client, experiment, origin.work):
            tags["abo_vqa.continues"] = before
    run = client.create_run(experiment, start_time=origin.at, tags=tags, run_name=origin.name)
    return str(run.info.run_id), parent, experiment


def _parent_run(client: MlflowClient, experiment: str, origin: Origin) -> str:
    """Find the invocation's parent run by its tag, or create it; return its id."""
    with FileLock(lock_file()):
        if run := newest_run(client, experiment, {"abo_vqa.invocation": origin.key}):
            parent = str(run.info.run_id)
            for key, value in origin.tags.items():
                if key in ("abo_vqa.host", "abo_vqa.process"):
                    client.set_tag(parent, key, value)
            client.update_run(parent, status="RUNNING")
            return parent
        tags = {**origin.parent_tags, "abo_vqa.invocation": origin.key}
        if origin.note:
            tags[NOTE] = origin.note
        run = client.create_run(
            experiment, start_time=origin.at, tags=tags, run_name=origin.parent_name
        )
        return str(run.info.run_id)


def newest_run(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> Run | None:
    """Find the newest run that has all these tags.

    Args:
        client: MLflow's client.
        experiment: the experiment's id.
        tags: values by name.
    """
    query = " and ".join(f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items())
    return next(iter(client.search_runs([experiment], filter_string=query, max_results=1)), None)


def _quoted(text: str) -> str:
    """Quote a text for MLflow's filters, which know two kinds of quotes and no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def _stopped_run(client: MlflowClient, experiment: str, work: str) -> str | None:
    """Find the run that did the same work last, if it was stopped before its end."""
    run = newest_run(client, experiment, {"abo_vqa.work": work})
    return str(run.info.run_id) if run and run.info.status in _STOPPED else None


def _close_abandoned_runs(client: MlflowClient, experiment: str) -> None:
    """Close runs whose process on this machine has ended without doing so: it was killed."""
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'", max_results=200):
        if process_has_ended(run.data.tags):
            client.set_terminated(run.info.run_id, status="KILLED")


def close_run(
    client: MlflowClient,
    run: str,
    parent: str,
    status: str,
    line: str,
    seconds: float,
    at: int,
    result: str = "",
) -> None:
    """End a run and its parent, whose description lists what came out and what ran.

    Args:
        client: MLflow's client.
        run: the run's id.
        parent: its parent's id.
        status: MLflow's word for how it ended.
        line: what the parent's description says about it.
        seconds: how long it took.
        at: milliseconds since 1970.
        result: what came out of the whole invocation, if the run has shown that: it is what the
            description starts with, since the browser hides the end of a long one.
    """
    client.set_terminated(run, status=status, end_time=at)
    data = client.get_run(parent).data
    lines = data.tags.get(NOTE, "").splitlines()
    if f"- {line}" not in lines:  # else an attempt failed only after this
        total = Metric("seconds", data.metrics.get("seconds", 0.0) + seconds, at, 0)
        tags = []
        if result:
            lines = _starting_with(result, lines, data.tags.get(_RESULT, ""))
            tags.append(RunTag(_RESULT, result))
        tags.append(RunTag(NOTE, "\n".join([*lines, f"- {line}"])))
        client.log_batch(parent, metrics=[total], tags=tags)
    client.set_terminated(parent, status=status, end_time=at)


def _starting_with(result: str, lines: list[str], before: str) -> list[str]:
    """Return a description's lines with a result before them, in place of an earlier one."""
    if before and lines[:2] == [f"**{before}**", ""]:
        lines = lines[2:]
    return [f"**{result}**", "", *lines]
