"""What MLflow has recorded."""

from abo_vqa.core.tracking.backend import connect


def stages():
    """The runs that aren't parents, newest first, by name."""
    client = connect()
    experiment = client.get_experiment_by_name("abo-vqa").experiment_id
    found = client.search_runs([experiment])
    return client, [run for run in found if "mlflow.parentRunId" in run.data.tags]
