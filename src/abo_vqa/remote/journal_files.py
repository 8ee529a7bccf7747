"""Which files hold the replies under some settings: a journal, those of shards, former versions'.

A reply that ended before it reached the output limit doesn't depend on that, so the limit is no
part of what identifies a journal. Former versions had one for each limit: what they paid for is
read where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.remote.batch_jobs import BatchJobFile
from abo_vqa.remote.journal import (
    LIMIT,
    AnnotationJournal,
    JournalReader,
    journal_name,
)


def journal_paths(folder: Path) -> Iterator[Path]:
    """Yield the journals in a folder: the main one and those of shards."""
    yield from sorted(folder.glob("*.jsonl"))


def present_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return a journal's settings without a former version's output limit.

    Args:
        theirs: the journal's.
        ours: what replies depend on today.
    """
    return {name: value for name, value in theirs.items() if name != LIMIT or LIMIT in ours}


def former_journals(folder: Path, settings: Mapping[str, Any]) -> list[Path]:
    """Return the journals of former versions with the same settings, whatever their limit.

    Args:
        folder: where such journals are today; former versions had one beside it for each limit.
        settings: what replies depend on.
    """
    return [
        path
        for path in sorted(folder.parent.glob("*/*.jsonl"))
        if path.parent != folder and _is_same(path, settings)
    ]


def _is_same(path: Path, settings: Mapping[str, Any]) -> bool:
    reader = JournalReader(path)
    try:
        reader.read_header()
    except UserError:  # something else
        return False
    theirs = present_settings(reader.header.get("settings", {}), settings)
    return fingerprint(theirs) == fingerprint(settings)


def all_journals(folder: Path, settings: Mapping[str, Any]) -> list[Path]:
    """Return the journals in a folder, after those of former versions with the same settings."""
    return [*former_journals(folder, settings), *journal_paths(folder)]


def own_journals(journal: AnnotationJournal) -> list[Path]:
    """Return a journal's file, after those of former versions that it continues."""
    former = former_journals(journal.path.parent, journal.settings)
    return [*(path for path in former if path.name == journal.path.name), journal.path]


def own_names(journal: AnnotationJournal) -> list[str]:
    """Return the names in the ledger of `own_journals`."""
    return list(map(journal_name, own_journals(journal)))


def load_jobs(journal: AnnotationJournal) -> BatchJobFile:
    """Return a journal's batch jobs; those of `own_journals` become its own.

    Raises:
        UserError: a file isn't a list of jobs.
    """
    *former, path = own_journals(journal)
    jobs = BatchJobFile.load(path.with_suffix(".jobs"))
    for file in former:
        if file.with_suffix(".jobs").is_file():
            reader = JournalReader(file)
            reader.read_header()
            jobs.take_over(file.with_suffix(".jobs"), reader.limit)
    return jobs
