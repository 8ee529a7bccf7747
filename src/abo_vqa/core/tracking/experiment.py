"""The experiment that runs belong to: created once, and found again after a move."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from sqlalchemy.exc import SQLAlchemyError

from abo_vqa.core.errors import UserError
from abo_vqa.core.tracking.addresses import is_server, lock_file, mask_login, sqlite_file, store
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.relocate import relocate
from abo_vqa.core.tracking.store_checks import (
    StoreBusyError,
    check_store,
    unknown_kind,
    unusable,
)
from abo_vqa.core.tracking.views import save_views


def prepare(experiment: str) -> str:
    """Create database and experiment if needed; return the experiment's id.

    Artifacts that were recorded in another folder, since the checkout was moved or copied, are
    looked for in this one from now on. Concurrent first creation fails inside MLflow, hence the
    lock.

    Args:
        experiment: its name.

    Raises:
        StoreBusyError: The database is locked by another process.
        UserError: The store can't be used, or the experiment is deleted.
    """
    uri, artifacts = store()
    check_store(uri)
    try:
        with FileLock(lock_file(), timeout=60):
            if (file := sqlite_file(uri)) is not None and artifacts is not None:
                relocate(file, artifacts)
            return _find_or_create(experiment, uri, artifacts)
    except Timeout as error:
        raise StoreBusyError(f"another process is preparing {mask_login(uri)}") from error
    except PermissionError as error:
        raise unusable(uri, error) from error


def _find_or_create(experiment: str, uri: str, artifacts: str | None) -> str:
    """Return the experiment's id; see `prepare`."""
    try:
        client = connect()
        existing = client.get_experiment_by_name(experiment)
        if existing is None:
            # Else the browser opens the experiment in its view for generative applications.
            tags = {"mlflow.experimentKind": "custom_model_development"}
            number = str(client.create_experiment(experiment, artifacts, tags))
            save_views(client, number, tags, int(time.time() * 1000))
            return number
    except UnsupportedModelRegistryStoreURIException as error:
        raise unknown_kind(uri) from error
    except (MlflowException, SQLAlchemyError) as error:
        if "database is locked" in str(error):
            raise StoreBusyError(f"{mask_login(uri)} is locked by another process") from error
        raise unusable(uri, error) from error
    if existing.lifecycle_stage == "deleted":
        raise UserError(
            f"the MLflow experiment {experiment!r} is deleted. Restore it (mlflow experiments "
            f"restore -x {existing.experiment_id}) or change tracking.experiment in params.yaml."
        )
    check_artifacts(existing, uri)
    if "mlflow.experimentKind" not in existing.tags:  # made before this was recorded
        client.set_experiment_tag(
            existing.experiment_id, "mlflow.experimentKind", "custom_model_development"
        )
    save_views(client, existing.experiment_id, existing.tags, existing.creation_time)
    return str(existing.experiment_id)


def check_artifacts(experiment: Experiment, uri: str) -> None:
    """Check that an experiment's artifacts aren't in a folder of another machine.

    A server that doesn't pass artifacts on, and a database that several machines share, hand out
    the location with which the experiment was created. MLflow would make such a folder here,
    where nobody else finds it.

    Args:
        experiment: the experiment.
        uri: the store's address.

    Raises:
        UserError: They are in a folder that isn't here.
    """
    location = str(experiment.artifact_location)
    if sqlite_file(uri) is not None or urlsplit(location).scheme not in ("", "file"):
        return
    folder = Path(unquote(urlsplit(location).path))
    # Before the first artifact only the folder around it is there.
    if folder.is_dir() or folder.parent.is_dir():
        return
    remedy = (
        "Start it with --serve-artifacts and --artifacts-destination"
        if is_server(uri)
        else "Put a tracking server before the database"
    )
    raise UserError(
        f"the MLflow experiment {experiment.name!r} keeps its artifacts in {location}, a folder "
        f"that this machine hasn't. {remedy} (docs/tracking-server.md), and record into another "
        "experiment (tracking.experiment in params.yaml), since a location never changes."
    )
