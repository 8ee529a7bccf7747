"""What it means that a record couldn't be written, and how people hear of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException, RestException
from requests import RequestException

from abo_vqa.core.log import get_logger
from abo_vqa.core.tracking import REQUEST_TIMEOUT_S
from abo_vqa.core.tracking.file_records import FileChangedError, OutdatedRecordError
from abo_vqa.core.tracking.store_checks import cause

logger = get_logger(__name__)

# A server that passes artifacts on answers only when it has stored the whole file.
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
# The outbox itself tries again, so that one attempt is enough.
_UPLOADING = {_TIMEOUT: "120", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
# MLflow's answers that another attempt won't change. A permission can be given later.
_FINAL = {
    "INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS", "FEATURE_DISABLED", "ENDPOINT_NOT_FOUND",
}  # fmt: skip
# Those that may be about one record, while others are accepted.
_OF_ONE_RECORD = {"PERMISSION_DENIED", "INTERNAL_ERROR"}


def is_final(error: Exception) -> bool:
    """Tell whether a record failed for a reason of its own, not for the store's state.

    What answers in place of a server that is away, a proxy, says 404 as well, in other words than
    MLflow's.

    Args:
        error: what was raised.
    """
    if isinstance(error, MlflowException):
        text = str(error)
        foreign = not isinstance(error, RestException) and "failed with error code" in text
        return error.error_code in _FINAL and not foreign and "locked" not in text
    if isinstance(error, RequestException):  # some of them are ValueErrors
        return False
    ours = FileChangedError | OutdatedRecordError
    return isinstance(error, ours | KeyError | TypeError | ValueError)  # UnicodeError is the last


def is_of_one_record(error: Exception) -> bool:
    """Tell whether other records may be accepted all the same.

    Args:
        error: what was raised about one.
    """
    if isinstance(error, RestException):
        return error.error_code in _OF_ONE_RECORD
    return "too many 500 error responses" in str(error)  # INTERNAL_ERROR, and no attempts left


def reason(error: Exception) -> str:
    """Describe an error in one line, without passwords.

    Args:
        error: the error; of SQLAlchemy's, the database's own error behind it.
    """
    name, line = type(error).__name__, cause(error)[:200]
    return line if line == name else f"{line} ({name})"


def warn(text: str) -> None:
    """Warn about the records of runs.

    Args:
        text: the message.
    """
    logger.warning(f"MLflow: {text}")


@contextmanager
def long_uploads(needed: bool) -> Iterator[None]:
    """Wait longer for each answer within the block, unless the user has set how long.

    Args:
        needed: False: wait as long as ever.
    """
    if not needed or os.environ.get(_TIMEOUT) != REQUEST_TIMEOUT_S:
        yield
        return
    before = {name: os.environ.get(name, "") for name in _UPLOADING}
    os.environ.update(_UPLOADING)
    try:
        yield
    finally:
        os.environ.update(before)
