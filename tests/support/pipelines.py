"""Clones of the repository in which the whole pipeline runs, and what MLflow has of it."""

from helpers import scratch
from helpers.scratch import run


def clone_to(folder):
    """A clone with the working tree's uncommitted changes on top, and the sample's data."""
    scratch.clone(folder)
    run(folder, "dvc", "pull", "-q", "--remote", "sample", "data/raw/sample", "models/sample")
    (folder / "data" / "raw" / "abo").mkdir()
    run(folder, "dvc", "commit", "-q", "--force", "data.dvc")
    return folder


def tracked(folder):
    """All runs in the clone's MLflow database."""
    import mlflow

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("abo-vqa")
    return client, list(client.search_runs([experiment.experiment_id]))
