"""Where runs are recorded. No part of MLflow is imported here, which takes seconds.

One database in the main checkout serves `dvc repro`, `dvc exp run`, `--temp` and the queue, since
DVC sets `DVC_ROOT` to the main checkout everywhere. `MLFLOW_TRACKING_URI` overrides it.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote

from abo_vqa.core.scratch import cache, project_root

# user:password@ of an address, up to the last "@" of the word: not everybody escapes passwords.
LOGIN = re.compile(r"([a-z][a-z0-9+.\-]*://)([^\s\"'<>]*)@", re.IGNORECASE)
_PASSWORD = re.compile(r"((?:pass|password|passwd)=)[^\s&;,\"']+", re.IGNORECASE)


def mask_login(text: str) -> str:
    """Replace user and password in every address of a text by `***`.

    Args:
        text: an address, or a message with some.
    """
    return _PASSWORD.sub(r"\1***", LOGIN.sub(r"\1***@", text))


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
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or sqlite_uri(root / "mlflow.db")
    if is_server(uri):
        return uri, None
    file = sqlite_file(uri)
    if file is None:  # another database: its artifacts stay with the checkout
        return _with_driver(uri), (root / "mlartifacts").as_uri()
    return sqlite_uri(file), (file.parent / "mlartifacts").as_uri()


def _with_driver(uri: str) -> str:
    """Name the driver of PostgreSQL that is installed: SQLAlchemy 2.1 would take another."""
    scheme, separator, rest = uri.partition("://")
    if scheme not in ("postgresql", "postgres") or find_spec("psycopg2") is None:
        return uri
    return f"postgresql+psycopg2{separator}{rest}"


def store_name() -> str:
    """Return the store's address without its login, for messages.

    Where the store is a file in the checkout, which may be moved, it is relative to that.
    """
    uri, root = store()[0], project_root().resolve()
    file = sqlite_file(uri)
    if file is None or not file.is_relative_to(root):
        return mask_login(uri)
    return file.relative_to(root).as_posix()


def lock_file() -> Path:
    """Return the lock under which this checkout's processes create what must exist only once."""
    return cache() / "mlflow.lock"
