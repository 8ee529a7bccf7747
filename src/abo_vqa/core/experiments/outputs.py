"""Files of a commit or an experiment, read from Git or DVC's cache without checking it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError
from dvc_data.index import DataIndexDirError

from abo_vqa.core.errors import AboVqaError, first_line


class OutputMissingError(AboVqaError):
    """A file of a commit or an experiment isn't in Git, in the cache or in a remote."""


def read_parquet(repo: Repo, rev: str, path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a table that a stage of an experiment wrote.

    Args:
        repo: the repository.
        rev: the experiment's commit.
        path: the file, in an output's folder or the output itself.
        columns: those that are needed.

    Returns:
        The table.

    Raises:
        OutputMissingError: The file isn't in DVC's cache any more, or isn't such a table.
    """
    (table,) = read_parquets(repo, rev, [path], columns)
    return table


def read_parquets(
    repo: Repo, rev: str | None, paths: Iterable[Path], columns: list[str]
) -> list[pd.DataFrame]:
    """Read several tables of a commit.

    Args:
        repo: the repository.
        rev: the commit; None for the workspace.
        paths: the files, in outputs' folders or outputs themselves.
        columns: those that are needed of each.

    Returns:
        The tables.

    Raises:
        OutputMissingError: A file isn't in DVC's cache or remotes, or isn't such a table.
    """
    tables = []
    with _at(repo, rev):
        for path in paths:
            with _opened(repo, rev, path) as file:
                tables.append(pd.read_parquet(file, columns=columns))
    return tables


def read_text(repo: Repo, rev: str | None, path: Path) -> str:
    """Read a text file of a commit, whether Git or DVC keeps it.

    Args:
        repo: the repository.
        rev: the commit; None for the workspace.
        path: the file.

    Raises:
        OutputMissingError: The commit has no such file, or it isn't in DVC's cache or remotes.
    """
    with _at(repo, rev), _opened(repo, rev, path) as file:
        return bytes(file.read()).decode("utf-8")


def _at(repo: Repo, rev: str | None) -> Any:
    return nullcontext() if rev is None else repo.switch(rev)


@contextmanager
def _opened(repo: Repo, rev: str | None, path: Path) -> Iterator[IO[bytes]]:
    """Open a file of the state that the repository stands at."""
    try:
        with repo.dvcfs.open(path.as_posix(), "rb") as file:
            yield file
    except (OSError, DvcException, DataIndexDirError, SCMError, ValueError, KeyError) as error:
        name = "the workspace" if rev is None else rev[:7]
        # Of a folder that can't be listed, only the cause says why.
        reason = error.__cause__ if isinstance(error, DataIndexDirError) else None
        raise OutputMissingError(f"{path} of {name}: {first_line(reason or error)}") from error
