"""A checkout that was moved or copied keeps its artifacts.

MLflow writes absolute artifact locations into its database. Without this, runs of a moved checkout
lose their artifacts, and a copy writes into the original's folder.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from abo_vqa.core.log import get_logger

logger = get_logger(__name__)

# Where MLflow keeps locations; a column that a version of MLflow lacks is passed over.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(database: Path, location: str) -> int:
    """Point the recorded artifacts of a database to the folder `mlartifacts` beside it.

    Args:
        database: the SQLite file.
        location: the folder's address, file://….

    Returns:
        How many places were corrected; a message says so if there were any.
    """
    if not database.is_file():
        return 0
    with closing(sqlite3.connect(database, timeout=5)) as connection:
        columns = [pair for pair in _COLUMNS if _has_column(connection, *pair)]
        if ("experiments", "artifact_location") not in columns:
            return 0  # a database without tables
        locations = connection.execute("SELECT DISTINCT artifact_location FROM experiments")
        former = [
            old
            for (old,) in locations.fetchall()
            if old and old != location and old.startswith("file:") and old.endswith("/mlartifacts")
        ]
        changed = 0
        with connection:
            for old in former:
                changed += sum(_replace(connection, *pair, old, location) for pair in columns)
    for old in former:
        logger.warning(
            f"this checkout was at {old.removeprefix('file://').removesuffix('/mlartifacts')}: its "
            f"{database.name} now finds the artifacts in {database.parent / 'mlartifacts'}"
        )
    return changed


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    cursor = connection.execute(
        "SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column)
    )
    return cursor.fetchone() is not None


def _replace(
    connection: sqlite3.Connection, table: str, column: str, old: str, location: str
) -> int:
    """Replace the start of a column's values that lie in the folder `old`, and count them."""
    cursor = connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
        (location, len(old) + 1, old, len(old) + 1, f"{old}/"),
    )
    return cursor.rowcount
