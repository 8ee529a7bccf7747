"""Stages that an invocation didn't run: their results were still valid, or in DVC's cache.

They leave no run below the parent. The next stage that does run reports them, with the runs that
made their results, and takes over what experiments are compared by.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag

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
        makers = {name: _maker(client, experiment, stages[name]) for name in restored}
        for maker in filter(None, makers.values()):
            metrics |= json.loads(maker.data.tags.get(HEADLINE, "{}"))
        tags[RESTORED] = ", ".join([*known, *restored])
        tags[NOTE] = "\n".join([data.tags.get(NOTE, ""), *_lines(client, makers)])
    missing = [Metric(k, v, 0, 0) for k, v in metrics.items() if k not in data.metrics]
    client.log_batch(parent, metrics=missing, tags=[RunTag(k, v) for k, v in tags.items()])


def _maker(client: MlflowClient, experiment: str, outs: Mapping[str, str]) -> Run | None:
    """Find the newest run that made these outputs."""
    return newest_run(client, experiment, {f"dvc.out.{path}": md5 for path, md5 in outs.items()})


def _lines(client: MlflowClient, makers: Mapping[str, Run | None]) -> Iterable[str]:
    """Describe restored stages by the invocation that made their results."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name, maker in makers.items():
        tags = {} if maker is None else maker.data.tags
        groups[tags.get("mlflow.parentRunId", "")].append(name)
    for parent, names in groups.items():
        if parent:
            info = client.get_run(parent).info
            link = f"[{info.run_name}](#/experiments/{info.experiment_id}/runs/{parent})"
            yield f"- not run, restored from {link}: {', '.join(names)}"
        else:
            yield f"- not run, and made before runs were recorded here: {', '.join(names)}"
