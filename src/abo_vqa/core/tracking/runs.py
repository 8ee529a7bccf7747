"""Tracked work: a stage, or a trial of a search, as a run below its invocation's parent."""

from __future__ import annotations

import json
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
from abo_vqa.core.tracking import naming, origin
from abo_vqa.core.tracking.descriptions import changed_tag, parent_note, source_tags
from abo_vqa.core.tracking.dvc import MEMBERS, stage_files, stage_name
from abo_vqa.core.tracking.failures import reason, warn
from abo_vqa.core.tracking.file_records import Artifact, Dataset, Model, Table, Text
from abo_vqa.core.tracking.opening import open_outbox
from abo_vqa.core.tracking.outbox import Outbox, deliver_pending
from abo_vqa.core.tracking.parents import Origin
from abo_vqa.core.tracking.records import Metrics, Params, Result, RunEnd, Stages, Tags
from abo_vqa.core.tracking.resources import ResourceMonitor
from abo_vqa.core.tracking.reused import HEADLINE

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.core.summary import Summary

_FLUSH_S = 5.0  # seconds after which a metric's points are flushed
_POINTS = 500  # … or points buffered
_STOPS = (KeyboardInterrupt, SystemExit, TerminatedError, RetryLaterError)


class Tracker:
    """One MLflow run being written.

    Attributes:
        outbox: where its records wait.
        settings: what was logged as the run's settings.
        line: what the parent's description says about the run.
        result: what came out of the whole invocation, if this run has shown that.
    """

    def __init__(self, handle: str, outbox: Outbox) -> None:
        self.outbox = outbox
        self.settings: dict[str, Any] = {}
        self.line = self.result = ""
        self._handle = handle
        self._points: list[tuple[str, float, int, int]] = []
        self._thinner = naming.MetricDownsampler()
        self._sent = time.monotonic()
        self._results: Mapping[str, Mapping[str, float]] = {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each metric's history; a long history is thinned out.

        Args:
            metrics: the values.
            step: their step.
        """
        now = int(time.time() * 1000)
        for name, value in metrics.items():
            if self._thinner.keeps(name):
                self._points.append((naming.metric_name(name), float(value), now, step))
        if len(self._points) >= _POINTS or time.monotonic() - self._sent > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Hand over the points that have gathered."""
        if self._points:
            self.outbox.put(Metrics(self._handle, self._points))
            self._points = []
        self._sent = time.monotonic()

    def metrics(self, values: Mapping[str, float], *, to_parent: bool = False) -> None:
        """Record numbers without a history.

        Args:
            values: the numbers.
            to_parent: record them for the invocation's run.
        """
        now = int(time.time() * 1000)
        points = [(naming.metric_name(k), float(v), now, 0) for k, v in values.items()]
        if points:
            self.outbox.put(Metrics(self._handle, points, to_parent=to_parent))

    def params(self, values: Mapping[str, Any], *, to_parent: bool = False) -> None:
        """Record settings; a long text becomes a file of the run.

        Args:
            values: the settings.
            to_parent: record them for the invocation's run.
        """
        short, long = naming.split_long_values(values)
        if short:
            self.outbox.put(Params(self._handle, short, to_parent=to_parent))
        for name, text in long.items():
            self.outbox.put(Text(self._handle, f"texts/{name}.txt", text, to_parent=to_parent))

    def tag(self, values: Mapping[str, str], *, to_parent: bool = False) -> None:
        """Record tags.

        Args:
            values: the tags.
            to_parent: record them for the invocation's run.
        """
        if values:
            self.outbox.put(Tags(self._handle, dict(values), to_parent=to_parent))

    def finish(self, summary: Summary) -> None:
        """Record what the stage returned; its outputs are there whatever goes wrong here.

        Args:
            summary: what it returned.
        """
        self.flush()
        with _attempt("what the stage returned"):
            self._record(summary)

    def _record(self, summary: Summary) -> None:
        self.line = summary.outcome or summary.message.strip().partition("\n")[0]
        if summary.outcome or summary.highlights:
            self.result = self.line
        if summary.message:
            self.tag({"mlflow.note.content": f"```\n{summary.message}\n```"})
        self.metrics(summary.metrics)
        self.metrics(summary.headline, to_parent=True)
        if summary.headline:
            self.tag({HEADLINE: json.dumps(dict(summary.headline))})
        self.params(naming.drop_known_params(summary.params, self.settings))
        self._results = {
            Path(p).as_posix(): result_values for p, result_values in summary.results.items()
        }
        for context, path in summary.datasets.items():
            self.outbox.put(Dataset(self._handle, str(path), context, path.as_posix()))
        for path in summary.artifacts:
            self.outbox.put(Artifact(self._handle, str(path)))
        for path in summary.highlights:
            self.outbox.put(Artifact(self._handle, str(path), to_parent=True))
        for name, columns in summary.tables.items():
            self.outbox.put(Table(self._handle, f"tables/{name}.json", columns))
        if summary.model is not None:
            folder, info = summary.model.folder, asdict(summary.model.info)
            self.outbox.put(Model(self._handle, str(folder), info))

    def link_files(self, stage: str) -> None:
        """Tag the run with its files' hashes, and add results to the runs of earlier stages.

        Args:
            stage: the stage's name in dvc.yaml.
        """
        files = stage_files(stage, self._results)
        self.tag(files.tags())
        if files.members:
            self.outbox.put(Text(self._handle, MEMBERS, json.dumps(files.members, indent=1)))
        for output, metrics in self._results.items():
            if output in files.others:
                self.outbox.put(Result(self._handle, output, files.others[output], dict(metrics)))
        if "DVC_STAGE" in os.environ:  # else the stage was run by hand, and rests on nothing
            self.outbox.put(Stages(self._handle, files.earlier))


@contextmanager
def _attempt(what: str) -> Iterator[None]:
    """Record something: whatever goes wrong is a warning, and doesn't stop the stage."""
    try:
        yield
    except Exception as error:
        warn(f"not recorded: {what}: {reason(error)}")


@contextmanager
def tracked_run(start: Origin) -> Iterator[Tracker]:
    """Open a child run of the parent with the origin's key.

    Both end FINISHED, KILLED where the user or the system stopped them, or FAILED.

    Args:
        start: what the run starts with.

    Yields:
        The run's tracker.
    """
    began, handle = time.monotonic(), uuid.uuid4().hex
    outbox = open_outbox(start, handle)
    tracker = Tracker(handle, outbox)
    monitor = ResourceMonitor(lambda points: outbox.put(Metrics(handle, points)))
    monitor.start()
    status, why = "FINISHED", ""
    try:
        yield tracker
    except BaseException as error:
        status = "KILLED" if isinstance(error, _STOPS) else "FAILED"
        why = reason(error) if isinstance(error, Exception) else "stopped"
        raise
    finally:
        monitor.stop()
        tracker.flush()  # what came before a crash or an interruption
        seconds = time.monotonic() - began
        ended = status == "FINISHED"
        line = f"{start.name} ({seconds:.0f} s): "
        line += tracker.line if ended else f"{status.lower()}: {why}"
        result = tracker.result if ended else ""
        outbox.put(RunEnd(handle, status, line, seconds, int(time.time() * 1000), result))
        outbox.close()


@contextmanager
def track(name: str, config: Config, checkpoint: str | None = None) -> Iterator[Tracker]:
    """Track one stage: settings before, hashes of its files and the machine after.

    Args:
        name: the stage's name.
        config: the settings.
        checkpoint: the key under `models` of the weights it uses, None if it uses none.

    Yields:
        The run's tracker.
    """
    stage = stage_name(name)
    started = origin.invocation(config.profile)
    settings = naming.stage_settings(name, config, checkpoint)
    owner, git = origin.owner_tags(), origin.git_tags()
    changed = origin.changed_settings()
    start = Origin(
        experiment=config.tracking.experiment,
        key=started.key,
        parent_name=started.name,
        name=name,
        at=int(time.time() * 1000),
        work=fingerprint([name, settings, git]),
        note="\n".join(parent_note(config, started, git, changed)),
        tags={"dvc.stage": stage, **source_tags(name), **owner, **git},
        parent_tags={**source_tags(started.command), **owner, **git, **changed_tag(changed)},
    )
    with tracked_run(start) as tracker:
        tracker.settings = settings
        tracker.params(settings)
        tracker.params(naming.compared_settings(config), to_parent=True)
        began = time.monotonic()
        try:
            yield tracker
        finally:
            tracker.metrics({"stage_seconds": time.monotonic() - began})
            with _attempt("the machine"):
                tracker.params(origin.machine(config, checkpoint))
        with _attempt("the hashes of the stage's files"):
            tracker.link_files(stage)
        with _attempt("pending data of an earlier run"):
            if not tracker.outbox.problem:
                deliver_pending()


@contextmanager
def track_trial(
    name: str,
    params: Mapping[str, Any],
    config: Config,
    number: int | None = None,
    checkpoint: str | None = None,
) -> Iterator[Tracker]:
    """Track one trial of a search; all its trials share a parent run.

    Args:
        name: the search's name.
        params: the trial's settings.
        config: the other settings.
        number: the trial's number.
        checkpoint: the key under `models` of the weights it uses, None if it uses none.

    Yields:
        The run's tracker.
    """
    owner, git = origin.owner_tags(), origin.git_tags()
    command = origin.invocation(config.profile).command
    start = Origin(
        experiment=config.tracking.experiment,
        key=f"tune:{name}",
        parent_name=f"tune {name}",
        name="trial" if number is None else f"trial {number}",
        at=int(time.time() * 1000),
        work=fingerprint([name, params]),
        tags={**source_tags(command), **owner, **git},
        parent_tags={**source_tags(command), **owner, **git},
    )
    with tracked_run(start) as tracker:
        settings = naming.stage_settings("finetune", config, checkpoint)
        tracker.params(settings | dict(params))
        tracker.params(naming.compared_settings(config), to_parent=True)
        tracker.settings = dict(params)
        yield tracker
        with _attempt("the machine"):
            tracker.params(origin.machine(config, checkpoint))
