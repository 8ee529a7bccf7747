"""The journal of paid replies: append-only JSON lines, on disk before they count.

It is our own code because no library gives an append-only file that several readers can merge, that
survives a kill at any byte, and that a team can send each other.

The first line holds the settings that the replies depend on. Every other line is one reply for one
image. Nothing is ever rewritten, so a kill costs at most the line being written, which a reader
recognises and cuts off.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from abo_vqa.core.errors import UserError
from abo_vqa.data.pairs import Pair, Reject
from abo_vqa.remote.contract import Usage

_VERSION = 1
EXCUSED = "excused"  # never on disk: a reader marks entries with it that count against no image
OUTGROWN = "outgrown"  # likewise: replies that were cut off by a lower limit than today's
REOPENED = "reopened"  # an entry that cancels an image's earlier refusals and failures
DROPPED = "dropped"  # left out by the user's choice
CUT_OFF_REASON = "MAX_TOKENS"
"""The finish reason of a reply that reached the output limit."""
LIMIT = "max_output_tokens"
"""The setting that only such a reply depends on: each of them has it, not the journal."""


class JournalBusyError(UserError):
    """Another process is writing to the journal."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One reply, or a note about an image.

    Attributes:
        image_path: path of the image in the archive; its name on disk is "image".
        key: fingerprint of the product's data and the image's bytes; an entry with another key is
            about something else that had the same path.
        pairs: what the quality filter accepted when the reply came.
        rejects: what it rejected.
        finish: the vendor's finish reason.
        problem: "", or why the image got no pairs: "blocked: …", "refused: …", "failed: …",
            "dropped: …"; or a note about the image's earlier entries: "reopened".
        usage: tokens paid for.
        price: share of the list price (the batch mode's is 0.5).
        model: the version that answered.
        time: Unix seconds.
        job: the batch job that the reply came with, or "".
        limit: output tokens that the request allowed, of a reply that was cut off; else 0.
    """

    image_path: str
    key: str
    pairs: tuple[Pair, ...] = ()
    rejects: tuple[Reject, ...] = ()
    finish: str = ""
    problem: str = ""
    usage: Usage = field(default_factory=Usage)
    price: float = 1.0
    model: str = ""
    time: float = 0.0
    job: str = ""
    limit: int = 0

    @property
    def candidates(self) -> list[Pair]:
        """All pairs of the reply, to be judged again: the filter's rules may have changed."""
        return [*self.pairs, *(Pair(r.question, r.answer) for r in self.rejects)]

    def with_limit(self, limit: int) -> JournalEntry:
        """Return the entry with the output limit of its request, if it needs one and has none."""
        is_cut_off = self.finish == CUT_OFF_REASON and not self.limit
        return replace(self, limit=limit) if limit and is_cut_off else self

    @property
    def is_final(self) -> bool:
        """Whether another request for the image would be useless."""
        return self.problem.startswith(("blocked", "refused", DROPPED))

    @property
    def is_outgrown(self) -> bool:
        """Whether today's output limit allows more than the one that the reply was cut off by."""
        return self.problem.startswith(OUTGROWN)

    @property
    def is_ignored(self) -> bool:
        """Whether the entry doesn't tell anything about the image."""
        return self.problem.startswith((EXCUSED, REOPENED))


def no_pairs_reason(entry: JournalEntry) -> str:
    """Return what the table of rejects gives as reason for a reply without any pair."""
    return f"no_pairs ({entry.finish or 'unreadable'})"


def _to_line(entry: JournalEntry) -> str:
    fields = asdict(entry)
    if entry.usage.counted:  # the rule, which former versions don't know by name
        del fields["usage"]["counted"]
    if not entry.limit:
        del fields["limit"]
    record = {"image": fields.pop("image_path"), **fields}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def _from_record(record: Mapping[str, Any]) -> JournalEntry:
    """Return the entry of a parsed line; raise KeyError or TypeError if it isn't one."""
    fields = dict(record)
    fields["image_path"] = fields.pop("image")
    fields["pairs"] = tuple(Pair(**pair) for pair in record["pairs"])
    fields["rejects"] = tuple(Reject(**reject) for reject in record["rejects"])
    fields["usage"] = Usage(**record["usage"])
    return JournalEntry(**fields)


@dataclass
class JournalContents:
    """A journal as read.

    Attributes:
        header: the first line; "settings" and "shard" are its keys.
        entries: the other lines.
        broken: number of damaged lines.
        size: bytes up to the end of the last complete line.
    """

    header: dict[str, Any]
    entries: list[JournalEntry]
    broken: int = 0
    size: int = 0


class JournalReader:
    """Reads a journal line by line: it may be larger than memory.

    An incomplete last line is left out, a damaged line is counted. The attributes are complete once
    all entries were read.

    Attributes:
        header: see `JournalContents`.
        broken: likewise.
        size: likewise.
    """

    def __init__(self, path: Path) -> None:
        """Prepare to read `path`."""
        self.header: dict[str, Any] = {}
        self.broken = self.size = 0
        self._path = path

    def __iter__(self) -> Iterator[JournalEntry]:
        """Yield the entries.

        Raises:
            UserError: the file is missing, or isn't a journal.
        """
        for line in self._lines():
            try:
                entry = _from_record(json.loads(line))
            except (ValueError, KeyError, TypeError):
                self.broken += 1
            else:
                yield entry.with_limit(self.limit)

    @property
    def limit(self) -> int:
        """The output limit in the header, where former versions have it; else 0."""
        return int(self.header.get("settings", {}).get(LIMIT, 0))

    def read_header(self) -> None:
        """Read the header alone; see `skip_entries`."""
        next(self._lines(), None)

    def skip_entries(self) -> None:
        """Read the header and the size alone: no entry is parsed.

        Raises:
            UserError: as for the entries.
        """
        deque(self._lines(), maxlen=0)

    def _lines(self) -> Iterator[bytes]:
        """Read the header, and yield the other complete lines."""
        try:
            handle = self._path.open("rb")
        except FileNotFoundError as error:
            raise UserError(f"no journal at {self._path}. Check the path.") from error
        with handle:
            for line in handle:
                if not line.endswith(b"\n"):
                    break
                is_header = not self.size
                self.size += len(line)
                if is_header:
                    self._read_header(line)
                else:
                    yield line

    def _read_header(self, line: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            self.header = {"version": record["abo_vqa_journal"], **record}
        self._check_header()

    def _check_header(self) -> None:
        if not self.header:
            raise UserError(
                f"{self._path} isn't a journal of abo-vqa: its first line isn't the header."
            )
        if self.header["version"] != _VERSION:
            raise UserError(
                f"{self._path} is a journal of version {self.header['version']}; this abo-vqa "
                f"reads version {_VERSION}."
            )


def read_journal(path: Path) -> JournalContents:
    """Read a journal; an incomplete last line is left out, a damaged line is counted.

    Args:
        path: the file.

    Raises:
        UserError: the file is missing, or isn't a journal.
    """
    reader = JournalReader(path)
    entries = list(reader)
    return JournalContents(reader.header, entries, reader.broken, reader.size)


class AnnotationJournal:
    """A journal open for appending, by one process at a time and any number of its threads.

    Attributes:
        path: the file.
        name: its name in the ledger.
        settings: what the replies depend on.
        limit: output tokens that requests allow, for replies that are cut off; or 0.
        torn: whether an incomplete last line was cut off when it was opened.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        shard: tuple[int, int] | None = None,
        limit: int = 0,
    ) -> None:
        """Open or create it; cut off an incomplete last line.

        Args:
            path: the file.
            settings: what the replies depend on, for the header.
            shard: (2, 5) for the second of five parts of the images.
            limit: output tokens that requests allow, where `settings` don't say.

        Raises:
            JournalBusyError: another process is writing to it.
            UserError: the file isn't a journal.
        """
        self.path = path
        self.name = journal_name(path)
        self.settings, self.limit = settings, limit
        path.parent.mkdir(parents=True, exist_ok=True)
        self._process_lock = FileLock(path.with_suffix(".lock"))
        try:
            self._process_lock.acquire(timeout=0)
        except Timeout as error:
            raise JournalBusyError(
                "another process is generating with these settings. Wait for it, or share the "
                "work with --shard 1/2 and --shard 2/2."
            ) from error
        self._lock = threading.Lock()
        self.torn = False
        self._handle = path.open("ab")
        reader = JournalReader(path)
        reader.skip_entries()  # up to its last complete line
        if reader.size < self._handle.tell():
            self.torn = True
            self._handle.truncate(reader.size)
            self._handle.seek(0, os.SEEK_END)
        if not reader.header:
            header = {"abo_vqa_journal": _VERSION, "shard": shard, "settings": dict(settings)}
            self._write(json.dumps(header, ensure_ascii=False) + "\n")

    def _write(self, text: str) -> None:
        with self._lock:
            self._handle.write(text.encode())
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def append(self, entry: JournalEntry) -> None:
        """Write an entry to disk. Once this returns, no crash can lose it."""
        self._write(_to_line(entry.with_limit(self.limit)))

    def extend(self, entries: Iterable[JournalEntry]) -> None:
        """Write entries to disk together."""
        self._write("".join(_to_line(entry.with_limit(self.limit)) for entry in entries))

    def close(self) -> None:
        """Close the file and let other processes write to it."""
        self._handle.close()
        self._process_lock.release()

    def __enter__(self) -> AnnotationJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def group_by_image(
    entries: Sequence[JournalEntry],
) -> dict[tuple[str, str], list[JournalEntry]]:
    """Return the entries by (image path, key), in their order."""
    groups: dict[tuple[str, str], list[JournalEntry]] = {}
    for entry in entries:
        groups.setdefault((entry.image_path, entry.key), []).append(entry)
    return groups


def timestamp() -> float:
    """Return the time as entries hold it: Unix seconds to the millisecond."""
    return round(time.time(), 3)


def journal_name(path: Path) -> str:
    """Return a journal's name in the ledger.

    Args:
        path: its file.
    """
    return f"{path.parent.name}/{path.stem}"
