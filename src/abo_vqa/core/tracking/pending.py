"""What waits for the next process: records in a file of their own, and which runs were begun."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from abo_vqa.core.files import atomic_write
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.scratch import cache
from abo_vqa.core.tracking.addresses import store_name
from abo_vqa.core.tracking.record_base import Record, RunRegistry

_FORGET_S = 30 * 86400.0  # no invocation takes longer


def pending_folder() -> Path:
    """Return the folder of the files whose records wait."""
    return cache("mlflow")


def keep(records: list[Record], runs: RunRegistry) -> Path:
    """Write records that wait, with the runs they belong to, into a file of their own.

    Args:
        records: the records.
        runs: the runs that handles stand for.

    Returns:
        The file.
    """
    file = pending_folder() / f"{records[0].run}.json"
    content = {
        "store": store_name(),
        "ids": runs.ids,
        "records": [record.as_json() for record in records],
    }
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return file


def count_records(records: Iterable[Record]) -> list[str]:
    """Count what waits, by kind: ["280 metrics", "the registered model"].

    Args:
        records: the records.
    """
    count: Counter[str] = Counter()
    for record in records:
        points = getattr(record, "points", None)
        count[record.what] += len(points) if points is not None else 1
    return [f"{n} {what}" if not what.startswith("the ") else what for what, n in count.items()]


def remember_invocation(key: str) -> None:
    """Note that an invocation has been recorded in this store.

    Args:
        key: the invocation's.
    """
    file = _mark(key)
    file.touch()
    for other in file.parent.iterdir():
        if time.time() - other.stat().st_mtime > _FORGET_S:
            other.unlink(missing_ok=True)


def is_under_way(key: str) -> bool:
    """Tell whether an invocation has been recorded in this store.

    Args:
        key: the invocation's.
    """
    return _mark(key).is_file()


def _mark(key: str) -> Path:
    return cache("mlflow", "begun") / fingerprint([store_name(), key])
