"""MLflow's client for the store that runs are recorded in."""

from __future__ import annotations

import logging
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from abo_vqa.core.errors import UserError
from abo_vqa.core.tracking.addresses import sqlite_uri as sqlite_uri  # where others look for it
from abo_vqa.core.tracking.addresses import store


def connect() -> MlflowClient:
    """Return MLflow's client for the store, with its advice to developers silenced.

    Raises:
        UserError: MLflow is installed where it can't work.
    """
    if "%" in mlflow.__file__:  # taken for a placeholder in the path of its database's schema
        raise UserError(
            f"MLflow doesn't work where it is installed, {Path(mlflow.__file__).parent}: the path "
            "has a '%'. Install into a folder without one (delete .venv, rename the folder, "
            "`make setup`)."
        )
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri, _ = store()
    if mlflow.get_tracking_uri() != uri:
        mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)
