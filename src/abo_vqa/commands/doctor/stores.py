"""Checks of where runs are recorded: MLflow's database or server, its experiment, its artifacts."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
from abo_vqa.commands.doctor.servers import TIMEOUT_S, call_with_timeout
from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.tracking.addresses import is_server, mask_login, sqlite_file, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

ARTIFACTS_S = 30.0  # for a small file to get through a server into its storage, and back
_START = (
    "Start the server, correct MLFLOW_TRACKING_URI, or unset it to use the local database. "
    "No stage starts without it."
)


def tracking(case: Checkout) -> Iterator[Finding]:
    """Check MLflow's store.

    A SQLite database is opened for reading. A server or another database is asked; a small file is
    written among the artifacts of a server, and removed.

    Args:
        case: the checkout.
    """
    uri, _ = store()
    file = sqlite_file(uri)
    if file is not None:
        yield _database(file)
        return
    from abo_vqa.core.tracking.store_checks import check_store

    # Read at each request.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(TIMEOUT_S)))
    call_with_timeout(2 * TIMEOUT_S, lambda: check_store(uri))  # raises what to do
    try:
        finding, client, experiment = call_with_timeout(2 * TIMEOUT_S, lambda: _ask(uri, case))
    except UserError:
        raise
    except Exception as error:  # of HTTP, SQLAlchemy and MLflow
        from abo_vqa.core.tracking.store_checks import unusable

        raise unusable(uri, error) from error
    yield finding
    if is_server(uri):
        yield _version(uri)
    yield _experiment(case, experiment)
    if is_server(uri):
        yield _artifacts(client, experiment)


def _database(file: Path) -> Finding:
    """Check a database file: there, sound, and writable for the stages."""
    if not file.is_file():
        advice = "`abo-vqa tracking` makes it, as does the first stage."
        return warning("tracking", f"{file} isn't there yet", advice)
    address = f"file:{quote(str(file))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=TIMEOUT_S)) as opened:
            (runs,) = opened.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        advice = "Stop the process that is writing to it, or move it away: a new one is created."
        return problem("tracking", f"{file} can't be read: {error}", advice)
    if not all(os.access(place, os.W_OK) for place in (file, file.parent)):
        advice = "Fix its permissions, or set MLFLOW_TRACKING_URI=sqlite:////path/mlflow.db."
        return problem("tracking", f"{file} can only be read", advice)
    return ok("tracking", f"{file}, {runs:,} runs")


def _ask(uri: str, case: Checkout) -> tuple[Finding, MlflowClient | None, Experiment | None]:
    """Ask a server or database for the experiment; see `tracking`."""
    if not is_server(uri) and not _has_tables(uri):
        advice = "`abo-vqa tracking` creates them, as does the first stage."
        message = f"{mask_login(uri)} answers, and has no tables of MLflow's yet"
        return warning("tracking", message, advice), None, None
    from abo_vqa.core.tracking.backend import connect

    client = connect()
    name = case.config.tracking.experiment if case.config else "abo-vqa"
    experiment = client.get_experiment_by_name(name)
    return ok("tracking", f"{mask_login(uri)} answers"), client, experiment


def _has_tables(uri: str) -> bool:
    """Tell whether MLflow's tables are in a database: its client would create them."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    return "experiments" in inspect(create_engine(uri, poolclass=NullPool)).get_table_names()


def _version(uri: str) -> Finding:
    """Compare the server's version of MLflow with this environment's."""
    import mlflow
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request
    from packaging.version import InvalidVersion, Version

    answer = http_request(get_default_host_creds(uri), "/version", "GET", raise_on_status=False)
    here = Version(mlflow.__version__)
    try:
        there = Version(answer.text.strip() if answer.status_code == 200 else "")
    except InvalidVersion:
        return ok("server", f"doesn't tell its version; here is MLflow {here}")
    message = f"MLflow {there}, here {here}"
    if there.major != here.major:
        advice = "Install the same major version on both sides: requests and tables differ."
        return problem("server", message, advice)
    if there.release[:2] < here.release[:2]:
        advice = f"Update the server to {here}: an older one may lack what this one asks for."
        return warning("server", message, advice)
    return ok("server", message)


def _experiment(case: Checkout, experiment: Experiment | None) -> Finding:
    """Check that the experiment isn't deleted."""
    name = case.config.tracking.experiment if case.config else "abo-vqa"
    if experiment is None:
        return ok("experiment", f"{name} isn't there yet: the first stage creates it")
    if experiment.lifecycle_stage == "deleted":
        advice = (
            f"mlflow experiments restore -x {experiment.experiment_id}, or change "
            "tracking.experiment in params.yaml. No stage starts with a deleted one."
        )
        return problem("experiment", f"{name} is deleted", advice)
    return ok("experiment", f"{name} (id {experiment.experiment_id})")


def _artifacts(client: MlflowClient | None, experiment: Experiment | None) -> Finding:
    """Check that files get into the storage behind a server, by writing and removing one."""
    assert client is not None
    advice = (
        "Start it with --serve-artifacts and an --artifacts-destination that it may write to; look "
        "at its log. Metrics are recorded all the same, artifacts wait (docs/tracking-server.md)."
    )
    try:
        call_with_timeout(ARTIFACTS_S, lambda: _write_artifact(client, experiment))
    except UserError as error:
        return problem("artifacts", str(error), advice)
    except Exception as error:  # of HTTP, MLflow, and of clouds' libraries
        return problem("artifacts", f"can't be written: {first_line(error)}", advice)
    return ok("artifacts", "can be written and removed")


def _write_artifact(client: MlflowClient, experiment: Experiment | None) -> None:
    """Write a small file where artifacts go, and remove it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    from abo_vqa.core.tracking.experiment import check_artifacts

    # Where there is no experiment yet, that of MLflow's own is where a new one's would go.
    known = experiment or client.get_experiment("0")
    check_artifacts(known, store()[0])
    folder = f"{str(known.artifact_location).rstrip('/')}/doctor-{uuid.uuid4().hex}"
    repository = get_artifact_repository(folder)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "written-by-abo-vqa-doctor.txt"
        file.write_text("Removed at once.\n", encoding="utf-8")
        repository.log_artifact(str(file))
    repository.delete_artifacts()
