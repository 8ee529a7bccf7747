"""Stages that an invocation didn't run: their results were still valid, or in DVC's cache.

They leave no run below the parent. The next stage that does run reports them, with the runs that
made their results, and takes over what experiments are compared by.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag

from abo_vqa.core.tracking.dvc import OUT
from abo_vqa.core.tracking.lookup import output_digests
from abo_vqa.core.tracking.parents import NOTE, newest_run

RAN, RESTORED = "abo_vqa.stages_run", "abo_vqa.stages_restored"
HEADLINE = "abo_vqa.headline"  # a run's numbers that experiments are compared by


def report_stages(
    client: MlflowClient, experiment: str, parent: str, stages: Mapping[str, Mapping[str, str]]
) -> None:
    """Write on an invocation's parent which stages ran, and which of the others it rests on.

    Args:
        client: MLflow's client.
        experiment: the experiment's id.
        parent: the parent's id.
        stages: of each stage that the one which has just run depends on, the outputs' hashes.
    """
    query = f"tags.`mlflow.parentRunId` = '{parent}'"
    children = client.search_runs([experiment], query, order_by=["attributes.start_time ASC"])
    ran = list(dict.fromkeys(run.data.tags.get("dvc.stage", "") for run in children))
    data = client.get_run(parent).data
    known = [name for name in data.tags.get(RESTORED, "").split(", ") if name]
    restored = [name for name in stages if name not in {*ran, *known}]
    tags = {RAN: ", ".join(filter(None, ran))}
    metrics: dict[str, float] = {}
    if restored:
        makers = {name: _maker(client, experiment, name, stages, children) for name in restored}
        for maker in makers.values():
            headline = "{}" if maker.run is None else maker.run.data.tags.get(HEADLINE, "{}")
            metrics |= json.loads(headline)
        tags[RESTORED] = ", ".join([*known, *restored])
        lines = _lines(client, parent, makers)
        tags[NOTE] = "\n".join([data.tags.get(NOTE, ""), *lines])
    missing = [Metric(k, v, 0, 0) for k, v in metrics.items() if k not in data.metrics]
    client.log_batch(parent, metrics=missing, tags=[RunTag(k, v) for k, v in tags.items()])


@dataclass(frozen=True)
class _Maker:
    """Where a restored stage's results come from.

    Attributes:
        run: the run that made them; None if there is none.
        twin: the other stage that the run is of, whose results have the same content: DVC's cache
            knows contents, not paths.
    """

    run: Run | None
    twin: str = ""


def _maker(
    client: MlflowClient,
    experiment: str,
    name: str,
    stages: Mapping[str, Mapping[str, str]],
    children: Sequence[Run],
) -> _Maker:
    """Find the newest run that made a stage's results, or else the same under other paths."""
    if run := _run_with(client, experiment, stages[name]):
        return _Maker(run)
    content = sorted(stages[name].values())
    for child in reversed(children):
        if sorted(output_digests(child).values()) == content:
            return _Maker(child, child.data.tags.get("dvc.stage", ""))
    for twin, outs in stages.items():
        same = twin != name and sorted(outs.values()) == content
        if same and (run := _run_with(client, experiment, outs)):
            return _Maker(run, twin)
    return _Maker(None)


def _run_with(client: MlflowClient, experiment: str, outs: Mapping[str, str]) -> Run | None:
    """Find the newest run that made these outputs."""
    return newest_run(client, experiment, {f"{OUT}{path}": md5 for path, md5 in outs.items()})


def _lines(client: MlflowClient, own: str, makers: Mapping[str, _Maker]) -> Iterable[str]:
    """Describe restored stages by the invocation that made their results."""
    groups: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name, maker in makers.items():
        tags = {} if maker.run is None else maker.run.data.tags
        groups[tags.get("mlflow.parentRunId", ""), maker.twin].append(name)
    for (parent, twin), names in groups.items():
        if not parent:
            why = ", and made before runs were recorded here"
        elif parent == own and twin:
            why = f", the same results as {twin}"
        else:
            info = client.get_run(parent).info
            link = f"[{info.run_name}](#/experiments/{info.experiment_id}/runs/{parent})"
            why = f", the same results as {twin} of {link}" if twin else f", restored from {link}"
        yield f"- not run{why}: {', '.join(names)}"
