"""Parquet files of users and stages: a damaged one is named, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.system_errors import find_os_error


@contextmanager
def reading_parquet(path: Path, remedy: str) -> Iterator[None]:
    """Turn pyarrow's errors about a file into a message.

    Args:
        path: the file that is read in the block.
        remedy: a sentence about what to do.

    Raises:
        UserError: it isn't a Parquet file, or it is damaged.
        OSError: the system refuses it.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if find_os_error(error):  # the system refuses the file: nothing is wrong with its content
            raise
        reason = first_line(error).rstrip(".")
        raise UserError(
            f"{path} isn't a Parquet file, or is damaged: {reason}. {remedy}"
        ) from error
