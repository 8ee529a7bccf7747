"""Saved views of the runs table: MLflow's default shows no metric and no setting.

The browser keeps such a view (`Views`, `Save as new view`) as a tag of the experiment; these are
written once, and may be changed or deleted there.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PREFIX = "mlflow.sharedViewState."
_RUNS = "#/experiments/{id}/runs?workflowType=machine_learning"  # else in its view for GenAI
_LINK = _RUNS + "&viewStateShareKey={key}"
_INVOCATIONS = [
    *("metrics.`accuracy`", "metrics.`gain_over_blind`", "metrics.`best_validation_accuracy`"),
    *("metrics.`seconds`", "tags.`abo_vqa.changed`", "params.`lora.r`", "params.`profile`"),
    *("tags.`abo_vqa.stages_run`", "attributes.`Source`"),
]
_MODELS = [
    *("metrics.`accuracy`", "metrics.`gain_over_blind`", "metrics.`coverage`"),
    *("metrics.`stage_seconds`", "params.`dtype`", "params.`device`", "attributes.`Dataset`"),
]
# key: name, filter, column to sort by, columns
_VIEWS = {
    "abo-vqa-experiments": (
        "Experiments by result",
        "tags.`abo_vqa.invocation` LIKE '%'",
        "attributes.start_time",
        _INVOCATIONS,
    ),
    "abo-vqa-models": (
        "Models by accuracy",
        "metrics.accuracy >= 0 AND tags.`dvc.stage` LIKE '%'",
        "metrics.`accuracy`",
        _MODELS,
    ),
}
_MARK = "abo_vqa.views"  # the experiment's tag that says they were written
_FORMER = "Visual question answering on Amazon"  # starts the description until 0.2
_NOTE = """\
**[Compare experiments]({experiments})** or **[rank the models]({models})**. A parent run is one \
`dvc repro` or one experiment of visual question answering on Amazon Berkeley Objects, with its \
settings and headline results; its children are the stages that ran. See docs/experiments.md.
"""


def experiment_note(experiment: str) -> str:
    """Return the experiment's description, with links to the views.

    Args:
        experiment: the experiment's id.
    """
    links = {key.rpartition("-")[2]: _LINK.format(id=experiment, key=key) for key in _VIEWS}
    return _NOTE.format(**links)


def runs_route(experiment: str, tags: Mapping[str, str]) -> str:
    """Return the browser's route to an experiment's runs, in the first view if it is still there.

    Args:
        experiment: the experiment's id.
        tags: the experiment's.
    """
    key = next(iter(_VIEWS))
    route = _LINK if _PREFIX + key in tags else _RUNS
    return route.format(id=experiment, key=key)


def save_views(
    client: MlflowClient, experiment: str, tags: Mapping[str, str], created: int
) -> None:
    """Add the views, and a description that links to them, to an experiment that never had them.

    Args:
        client: MLflow's client.
        experiment: the experiment's id.
        tags: the experiment's.
        created: milliseconds since 1970.
    """
    if _MARK in tags:
        return
    for key, (name, query, order, columns) in _VIEWS.items():
        state = json.dumps(_state(query, order, columns)).encode()
        packed = "deflate;" + base64.b64encode(zlib.compress(state)).decode("ascii")
        view = {"name": name, "createdAt": created, "updatedAt": created, "state": packed}
        client.set_experiment_tag(experiment, _PREFIX + key, json.dumps(view))
    if tags.get("mlflow.note.content", _FORMER).startswith(_FORMER):  # else it is the user's
        client.set_experiment_tag(experiment, "mlflow.note.content", experiment_note(experiment))
    client.set_experiment_tag(experiment, _MARK, ", ".join(_VIEWS))


def _state(query: str, order: str, columns: list[str]) -> dict[str, object]:
    """Return a view as the browser stores it."""
    return {
        "searchFilter": query,
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
    }
