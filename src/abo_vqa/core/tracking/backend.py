"""Where runs are recorded, and whether that place can be used.

One database in the main checkout serves `dvc repro`, `dvc exp run`, `--temp` and the queue, since
DVC sets `DVC_ROOT` to the main checkout everywhere. `MLFLOW_TRACKING_URI` overrides it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import mlflow
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.scratch import cache, project_root
from abo_vqa.core.tracking.relocate import relocate

CONNECT_S = 5.0  # for a server to accept a connection, or a database to be free
_EXPERIMENT_NOTE = """\
Visual question answering on Amazon Berkeley Objects. A parent run is one `dvc repro` or one
experiment, and holds its settings and headline results; its children are the stages that ran.
See docs/experiments.md.
"""


class StoreBusyError(UserError):
    """The database is there and sound, but another process is writing it."""


def is_server(uri: str) -> bool:
    """Tell whether an address is a tracking server's, which keeps artifacts by itself.

    Args:
        uri: the address.
    """
    return uri.startswith(("http://", "https://", "databricks", "uc:"))


def sqlite_uri(file: Path) -> str:
    """Return the address of a database file, whatever characters its folders' names have.

    A name with `%`, `?` or `#` is escaped. MLflow would create a folder of the escaped name for
    addresses that start with `sqlite:///`, but not where the driver is named.

    Args:
        file: the database.
    """
    text, escaped = file.as_posix(), quote(file.as_posix())
    plain = not any(character in text for character in "%?#")
    return f"sqlite:///{text}" if plain else f"sqlite+pysqlite:///{escaped}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file behind a SQLite address, a relative one below the main checkout.

    Args:
        uri: the address.

    Returns:
        The file, None for other addresses.
    """
    if not uri.startswith(("sqlite:///", "sqlite+pysqlite:///")):
        return None
    name = unquote(uri.partition(":///")[2].partition("?")[0])
    if name in ("", ":memory:"):
        return None
    return project_root().resolve() / name


def store() -> tuple[str, str | None]:
    """Return the tracking URI and the artifact location (None: the server decides)."""
    root = project_root().resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root / "mlflow.db")
    if is_server(uri):
        return uri, None
    file = sqlite_file(uri)
    if file is None:  # another database: its artifacts stay with the checkout
        return uri, (root / "mlartifacts").as_uri()
    return sqlite_uri(file), (file.parent / "mlartifacts").as_uri()


def check_store(uri: str) -> None:
    """Check within seconds whether a store can be used at all.

    Args:
        uri: its address.

    Raises:
        StoreBusyError: Another process is writing the database.
        UserError: There is no server, no database, or it is a kind that MLflow no longer accepts.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file") or Path(uri).is_dir():
        raise UserError(
            f"MLFLOW_TRACKING_URI is {uri}, a folder of files, which MLflow 3 no longer accepts. "
            "Use a database, MLFLOW_TRACKING_URI=sqlite:///mlflow.db, or unset it (the same); "
            f"`mlflow migrate-filestore --source {uri} --target sqlite:///mlflow.db` takes old "
            "runs along."
        )
    if scheme in ("http", "https"):
        _check_server(uri)
    elif (file := sqlite_file(uri)) is not None:
        check_database(file)


def _check_server(uri: str) -> None:
    """Connect to a server's port; see `check_store`."""
    parts = urlsplit(uri)
    if getproxies().get(parts.scheme) and not proxy_bypass(parts.hostname or ""):
        return  # the proxy is what answers here
    try:
        address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        socket.create_connection(address, timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise unusable(uri, error) from error


def check_database(file: Path) -> None:
    """Take a database's write lock for a moment; see `check_store`.

    Args:
        file: the database.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for place in (file, file.parent):  # SQLite would notice at the first change only
            if place.exists() and not os.access(place, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
        with closing(sqlite3.connect(file, timeout=CONNECT_S, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise StoreBusyError(f"{file} is locked by another process") from error
        raise unusable(str(file), error) from error
    except (sqlite3.DatabaseError, OSError) as error:
        raise unusable(str(file), error) from error


def unusable(where: str, error: BaseException) -> UserError:
    """Return the error about a store that can't be used.

    Args:
        where: its address or file.
        error: what it raised.
    """
    if is_server(where):
        hint = "Start the server, or unset MLFLOW_TRACKING_URI to use the local database."
    else:
        hint = (
            "Make it readable and writable, or move it away: a new one is created. In a checkout "
            "that can only be read, MLFLOW_TRACKING_URI=sqlite:////path/mlflow.db names another."
        )
    return UserError(f"can't use MLflow at {where}: {first_line(error)}\n{hint}")


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
        raise StoreBusyError(f"another process is preparing {uri}") from error
    except PermissionError as error:
        raise unusable(uri, error) from error


def lock_file() -> Path:
    """Return the lock under which this checkout's processes create what must exist only once."""
    return cache() / "mlflow.lock"


def _find_or_create(experiment: str, uri: str, artifacts: str | None) -> str:
    """Return the experiment's id; see `prepare`."""
    try:
        client = connect()
        existing = client.get_experiment_by_name(experiment)
        if existing is None:
            tags = {
                # Else the browser opens the experiment in its view for generative applications.
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.note.content": _EXPERIMENT_NOTE,
            }
            return str(client.create_experiment(experiment, artifacts, tags))
    except (MlflowException, SQLAlchemyError) as error:
        if "database is locked" in str(error):
            raise StoreBusyError(f"{uri} is locked by another process") from error
        raise unusable(uri, error) from error
    if existing.lifecycle_stage == "deleted":
        raise UserError(
            f"the MLflow experiment {experiment!r} is deleted. Restore it (mlflow experiments "
            f"restore -x {existing.experiment_id}) or change tracking.experiment in params.yaml."
        )
    if "mlflow.experimentKind" not in existing.tags:  # made before this was recorded
        client.set_experiment_tag(
            existing.experiment_id, "mlflow.experimentKind", "custom_model_development"
        )
    return str(existing.experiment_id)
