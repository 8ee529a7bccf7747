"""Journals as former versions wrote them, with the output limit among their header's settings."""

from __future__ import annotations

import json
from pathlib import Path

from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.remote.journal import LIMIT


def make_former(folder: Path, limit: int) -> Path:
    """Turn a folder of journals, and of batch jobs, into a former version's; return its new place.

    Args:
        folder: the folder.
        limit: output tokens that its requests allowed.
    """
    settings = {}
    for path in folder.glob("*.jsonl"):
        header, *entries = map(json.loads, path.read_text().splitlines())
        settings = header["settings"] = header["settings"] | {LIMIT: limit}
        for entry in entries:
            entry.pop("limit", None)
        path.write_text("".join(json.dumps(record) + "\n" for record in (header, *entries)))
    for path in folder.glob("*.jobs"):
        jobs = json.loads(path.read_text())
        path.write_text(json.dumps([{k: job[k] for k in job if k != "limit"} for job in jobs]))
    return folder.rename(folder.parent / fingerprint(settings))
