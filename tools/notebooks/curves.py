"""Print the curves that MLflow has of the last training, as JSON: {name: [[step, value], …]}."""

from __future__ import annotations

import json
import os
from typing import Any

from mlflow import MlflowClient

CURVES = ("loss", "lr", "validation_accuracy")


def curves(client: MlflowClient) -> dict[str, list[list[float]]]:
    """Return the curves of the last run of `finetune`.

    Args:
        client: of MLflow's store.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs: list[Any] = client.search_runs(
        experiments,
        "tags.`dvc.stage` = 'finetune'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    named = {}
    for name in CURVES if runs else ():
        points = client.get_metric_history(runs[0].info.run_id, name)
        if points:
            named[name] = [[point.step, point.value] for point in points]
    return named


if __name__ == "__main__":
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    print(json.dumps(curves(MlflowClient(uri))))
