"""Whether the place where runs are recorded can be used, which is known within seconds."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import create_engine
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.tracking.addresses import is_server, mask_login, sqlite_file

CONNECT_S = 5.0  # for a server to answer, or a database to be free
_DATABASES = ("postgresql", "mysql", "mssql")  # besides SQLite; MLflow knows no others
_CLOSING = "\"')( "  # what is left of nested errors' texts
_REFUSED = ("error code 401", "error code 403", "UNAUTHENTICATED", "PERMISSION_DENIED")


class StoreBusyError(UserError):
    """The database is there and sound, but another process is writing it."""


class StoreUnusableError(UserError):
    """The store doesn't answer, refuses us, or can't be written."""


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
    elif scheme.partition("+")[0] in _DATABASES:
        _check_shared_database(uri)


def _check_server(uri: str) -> None:
    """Ask a server whether it is healthy; see `check_store`.

    Whatever it answers will do, even that it doesn't know the question (a proxy may keep it back),
    but not that what is behind a proxy doesn't answer.
    """
    try:
        if not urlsplit(uri).hostname:
            raise ValueError("the address names no host")
        answer = http_request(
            get_default_host_creds(uri),
            "/health",
            "GET",
            max_retries=0,
            timeout=CONNECT_S,
            raise_on_status=False,
        )
    except (MlflowException, OSError, ValueError) as error:
        raise unusable(uri, error) from error
    if answer.status_code >= 500:
        raise unusable(uri, OSError(f"it answers HTTP {answer.status_code}, {answer.reason}"))


def _check_shared_database(uri: str) -> None:
    """Connect to PostgreSQL or the like; see `check_store`.

    MLflow itself would try ten times, for minutes.
    """
    limited = urlsplit(uri).scheme.partition("+")[0] in ("postgresql", "mysql")
    arguments = {"connect_timeout": round(CONNECT_S)} if limited else {}
    try:
        engine = create_engine(uri, connect_args=arguments, poolclass=NullPool)
        engine.connect().close()
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        driver = getattr(error, "name", None) or first_line(error)
        raise UserError(
            f"MLFLOW_TRACKING_URI is {mask_login(uri)}, whose driver isn't installed ({driver}). "
            "For PostgreSQL run `make setup EXTRAS=postgres`."
        ) from error
    except (SQLAlchemyError, OSError) as error:
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


def unusable(where: str, error: BaseException) -> StoreUnusableError:
    """Return the error about a store that can't be used.

    Args:
        where: its address or file.
        error: what it raised.
    """
    if any(sign in str(error) for sign in _REFUSED):
        hint = (
            "The server wants a login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or MLFLOW_TRACKING_TOKEN, of an account that may write."
        )
    elif is_server(where):
        hint = "Start the server, or unset MLFLOW_TRACKING_URI to use the local database."
    elif urlsplit(where).scheme.partition("+")[0] in _DATABASES:
        hint = (
            "Start the database, correct its address and password, or unset MLFLOW_TRACKING_URI "
            "to use the local one."
        )
    else:
        hint = (
            "Make it readable and writable, or move it away: a new one is created. In a checkout "
            "that can only be read, MLFLOW_TRACKING_URI=sqlite:////path/mlflow.db names another."
        )
    return StoreUnusableError(f"can't use MLflow at {mask_login(where)}: {cause(error)}\n{hint}")


def cause(error: BaseException) -> str:
    """Describe what a store raised in one line: without passwords, and without layers of wrapping.

    Args:
        error: of SQLAlchemy's errors, the database's own behind it counts; of requests', what
            happened to the last attempt.
    """
    line = mask_login(first_line(getattr(error, "orig", None) or error, 2000))
    request, caused, why = line.partition(" failed with exception ")
    if caused:
        innermost = why.rpartition("Caused by ")[2]
        line = f"{request} failed: {innermost.rpartition(': ')[2].strip(_CLOSING)}"
    return line[:300]


def unknown_kind(uri: str) -> UserError:
    """Return the error about an address that means no kind of store.

    Args:
        uri: the address.
    """
    return UserError(
        f"MLFLOW_TRACKING_URI is {mask_login(uri)}, whose beginning names no kind of store that "
        "MLflow knows. Use a server's address (http://HOST:5000, https://…), a database's "
        "(sqlite:///mlflow.db, postgresql://USER@HOST/NAME), or unset it: runs are then recorded "
        "in mlflow.db."
    )
