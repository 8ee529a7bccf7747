"""Tracked work: a stage, or a trial of a search, as a run below its invocation's parent."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import RetryLaterError, TerminatedError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.tracking import naming, origin, registry
from abo_vqa.core.tracking.backend import StoreBusyError, store, unusable
from abo_vqa.core.tracking.dvc import hashes, stage_name
from abo_vqa.core.tracking.outbox import Outbox, deliver_pending, reason, say
from abo_vqa.core.tracking.parents import Origin
from abo_vqa.core.tracking.records import (
    Artifact,
    Dataset,
    Ending,
    Metrics,
    Model,
    Opening,
    Params,
    Record,
    Result,
    Runs,
    Tags,
    Text,
)

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.core.summary import Summary

_FLUSH_S = 5.0  # a point of a history reaches the browser after so long
_POINTS = 500  # … or with so many others
_STOPS = (KeyboardInterrupt, SystemExit, TerminatedError, RetryLaterError)


class Tracker:
    """One MLflow run being written.

    Attributes:
        settings: what was logged as the run's settings.
        line: what the parent's description tells of the run.
    """

    def __init__(self, handle: str, outbox: Outbox, config: Config, name: str) -> None:
        self.handle, self.outbox, self.config, self.name = handle, outbox, config, name
        self.settings: dict[str, Any] = {}
        self.line = ""
        self.points: list[tuple[str, float, int, int]] = []
        self.thinner = naming.Thinner()
        self.sent = time.monotonic()
        self.results: Mapping[str, Mapping[str, float]] = {}

    def put(self, record: Record) -> None:
        self.outbox.put(record)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's history; a long history is thinned out."""
        now = int(time.time() * 1000)
        for name, value in metrics.items():
            if self.thinner.keeps(name):
                self.points.append((naming.metric_name(name), float(value), now, step))
        if len(self.points) >= _POINTS or time.monotonic() - self.sent > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        if self.points:
            self.put(Metrics(self.handle, self.points))
            self.points = []
        self.sent = time.monotonic()

    def metrics(self, values: Mapping[str, float], *, to_parent: bool = False) -> None:
        """Numbers without a history."""
        now = int(time.time() * 1000)
        points = [(naming.metric_name(k), float(v), now, 0) for k, v in values.items()]
        if points:
            self.put(Metrics(self.handle, points, to_parent=to_parent))

    def params(self, values: Mapping[str, Any], *, to_parent: bool = False) -> None:
        """Settings; a long text becomes a file of the run."""
        short, long = naming.texts(values)
        if short:
            self.put(Params(self.handle, short, to_parent=to_parent))
        for name, text in long.items():
            self.put(Text(self.handle, f"texts/{name}.txt", text, to_parent=to_parent))

    def tag(self, values: Mapping[str, str], *, to_parent: bool = False) -> None:
        if values:
            self.put(Tags(self.handle, dict(values), to_parent=to_parent))

    def finish(self, summary: Summary) -> None:
        """Write down what the stage returned; its outputs are there whatever goes wrong here."""
        self.flush()
        with _attempt("what the stage returned"):
            self.record(summary)

    def record(self, summary: Summary) -> None:
        self.line = summary.message.strip().partition("\n")[0]
        if summary.message:
            self.tag({"mlflow.note.content": f"```\n{summary.message}\n```"})
        self.metrics(summary.metrics)
        self.metrics(summary.headline, to_parent=True)
        self.params(naming.without_repeats(summary.params, self.settings))
        self.results = {Path(p).as_posix(): found for p, found in summary.results.items()}
        for context, path in summary.datasets.items():
            self.put(Dataset(self.handle, str(path), context, path.as_posix()))
        for path in summary.artifacts:
            self.put(Artifact(self.handle, str(path)))
        if summary.model is not None:
            about = registry.about(self.config, summary)
            self.put(Model(self.handle, str(summary.model), asdict(about)))

    def link_files(self, stage: str) -> None:
        """Tag the run with its files' hashes, and tell earlier stages' runs what came of theirs."""
        tags, known = hashes(stage, self.results)
        self.tag(tags)
        for output, metrics in self.results.items():
            if output in known:
                self.put(Result(self.handle, output, known[output], dict(metrics)))


@contextmanager
def _attempt(what: str) -> Iterator[None]:
    """Work beside the stage's: whatever goes wrong in it is said in a line, and no more."""
    try:
        yield
    except Exception as error:
        say(f"not recorded: {what}: {reason(error)}")


def _opened(start: Origin, handle: str) -> Outbox:
    """An outbox whose run is open, or will be as soon as a locked database is free.

    Raises:
        UserError: the store can't be used: said before any work is done.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if os.environ.pop("MLFLOW_RUN_ID", None):
        say("MLFLOW_RUN_ID is set and ignored: a stage's run is always a new one.")
    outbox = Outbox(Runs())
    opening = Opening(handle, start.as_json())
    try:
        try:
            opening.deliver(outbox.runs)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            if "database is locked" not in str(error):
                raise unusable(store()[0], error) from error
            raise StoreBusyError(f"{store()[0]} is locked by another process") from error
    except StoreBusyError as error:
        say(f"{error}; this run is recorded as soon as it isn't.")
        outbox.put(opening)
    outbox.start()
    return outbox


@contextmanager
def _open_run(start: Origin, config: Config) -> Iterator[Tracker]:
    """A child run of the parent with the origin's key.

    Both end FINISHED, KILLED where the user or the system stopped them, or FAILED.
    """
    began, handle = time.monotonic(), uuid.uuid4().hex
    outbox = _opened(start, handle)
    tracker = Tracker(handle, outbox, config, start.name)
    status, why = "FINISHED", ""
    try:
        yield tracker
    except BaseException as error:
        status = "KILLED" if isinstance(error, _STOPS) else "FAILED"
        why = reason(error) if isinstance(error, Exception) else "stopped"
        raise
    finally:
        tracker.flush()  # what was seen before a crash or an interruption
        seconds = time.monotonic() - began
        outcome = tracker.line if status == "FINISHED" else f"{status.lower()}: {why}"
        line = f"{start.name} ({seconds:.0f} s): {outcome}"
        outbox.put(Ending(handle, status, line, seconds, int(time.time() * 1000)))
        outbox.close()


@contextmanager
def track(name: str, config: Config) -> Iterator[Tracker]:
    """Track one stage: settings before, hashes of its files and the machine after."""
    stage = stage_name(name)
    started = origin.invocation(config.profile)
    settings = naming.stage_settings(name, config)
    owner, git = origin.owner_tags(), origin.git_tags()
    changed = origin.changed_settings()
    start = Origin(
        experiment=config.tracking.experiment,
        key=started.key,
        parent_name=started.name,
        name=name,
        at=int(time.time() * 1000),
        work=fingerprint([name, settings, git]),
        note="\n".join(_parent_note(config, started, git, changed)),
        tags={"dvc.stage": stage, **_source_tags(name), **owner, **git},
        parent_tags={**_source_tags(started.command), **owner, **git, **_changed_tag(changed)},
    )
    with _open_run(start, config) as tracker:
        tracker.settings = settings
        tracker.params(settings)
        tracker.params(naming.compared_settings(config), to_parent=True)
        began = time.monotonic()
        try:
            yield tracker
        finally:
            tracker.metrics({"stage_seconds": time.monotonic() - began})
            with _attempt("the machine"):
                tracker.params(origin.machine(name, config))
        with _attempt("the hashes of the stage's files"):
            tracker.link_files(stage)
        with _attempt("what an earlier run left"):
            if not tracker.outbox.problem:
                deliver_pending()


def _source_tags(command: str) -> dict[str, str]:
    """What MLflow's table shows as a run's source."""
    return {"mlflow.source.name": command, "mlflow.source.type": "LOCAL"}


def _changed_tag(changed: Mapping[str, str]) -> dict[str, str]:
    return {"abo_vqa.changed": ", ".join(f"{k}={v}" for k, v in changed.items())} if changed else {}


def _parent_note(
    config: Config, started: origin.Invocation, git: Mapping[str, str], changed: Mapping[str, str]
) -> Iterator[str]:
    """The first lines of an invocation's description; each stage adds what came out."""
    commit = git.get("mlflow.source.git.commit", "")[:7]
    dirty = ", with uncommitted changes" if git.get("mlflow.source.git.dirty") == "true" else ""
    yield f"`{started.command}`, profile {config.profile}, seed {config.seed}" + (
        f", commit {commit}{dirty}" if commit else ""
    )
    if changed:
        said = ", ".join(f"`{key}` {value}" for key, value in changed.items())
        yield f"\nSettings that differ from the commit's: {said}\n"


@contextmanager
def track_trial(
    name: str, params: Mapping[str, Any], config: Config, number: int | None = None
) -> Iterator[Tracker]:
    """Track one trial of a search named `name`: all its trials share a parent run."""
    owner, git = origin.owner_tags(), origin.git_tags()
    command = origin.invocation(config.profile).command
    start = Origin(
        experiment=config.tracking.experiment,
        key=f"tune:{name}",
        parent_name=f"tune {name}",
        name="trial" if number is None else f"trial {number}",
        at=int(time.time() * 1000),
        work=fingerprint([name, params]),
        tags={**_source_tags(command), **owner, **git},
        parent_tags={**_source_tags(command), **owner, **git},
    )
    with _open_run(start, config) as tracker:
        tracker.params(naming.stage_settings("finetune", config) | dict(params))
        tracker.params(naming.compared_settings(config), to_parent=True)
        tracker.settings = dict(params)
        yield tracker
        with _attempt("the machine"):
            tracker.params(origin.machine("trial", config))
