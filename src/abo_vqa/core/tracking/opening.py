"""How a run begins, and what is done where the store can't be used at that moment."""

from __future__ import annotations

import os

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from abo_vqa.core.tracking.addresses import store, store_name
from abo_vqa.core.tracking.failures import warn
from abo_vqa.core.tracking.outbox import Outbox
from abo_vqa.core.tracking.parents import Origin
from abo_vqa.core.tracking.pending import is_under_way, remember_invocation
from abo_vqa.core.tracking.record_base import RunRegistry
from abo_vqa.core.tracking.records import RunStart
from abo_vqa.core.tracking.store_checks import StoreBusyError, StoreUnusableError, unusable


def open_outbox(start: Origin, handle: str) -> Outbox:
    """Return an outbox whose run is open, or will be once the store can be used again.

    A pipeline that is under way doesn't end because a server is away between two of its stages.

    Args:
        start: what the run starts with.
        handle: what its records call it.

    Raises:
        UserError: The store can't be used, and nothing of this invocation has been done yet.
    """
    if os.environ.pop("MLFLOW_RUN_ID", None):
        warn("MLFLOW_RUN_ID is set and ignored: a stage's run is always a new one.")
    outbox = Outbox(RunRegistry())
    opening = RunStart(handle, start.as_json())
    try:
        _open(opening, outbox)
        remember_invocation(start.key)
    except (StoreBusyError, StoreUnusableError) as error:
        if isinstance(error, StoreUnusableError) and not is_under_way(start.key):
            raise
        problem = str(error).partition("\n")[0]
        warn(f"{problem}; this run will be recorded once the store can be used.")
        outbox.problem = problem
        outbox.put(opening)
    outbox.start()
    return outbox


def _open(opening: RunStart, outbox: Outbox) -> None:
    """Open a run; see `open_outbox`."""
    try:
        opening.deliver(outbox.runs)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        if "database is locked" not in str(error):
            raise unusable(store()[0], error) from error
        raise StoreBusyError(f"{store_name()} is locked by another process") from error
