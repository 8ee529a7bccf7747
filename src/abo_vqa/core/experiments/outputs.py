"""Files of an experiment, read from Git or DVC's cache without checking it out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError

from abo_vqa.core.errors import AboVqaError, first_line


class OutputMissingError(AboVqaError):
    """An experiment's file isn't in the cache."""


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
    try:
        with repo.switch(rev), repo.dvcfs.open(path.as_posix(), "rb") as file:
            return pd.read_parquet(file, columns=columns)
    except (OSError, DvcException, SCMError, ValueError, KeyError) as error:
        raise OutputMissingError(f"{path} of {rev[:7]}: {first_line(error)}") from error
