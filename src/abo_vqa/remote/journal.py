"""The journal of paid answers: append-only JSON lines, on disk before they count.

The first line says what the answers depend on. Every other line is one reply of the vendor for one
image. Nothing is ever rewritten, so a kill at any moment costs at most the line being written,
which a reader recognises and cuts off.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.data.pairs import Pair, Reject
from abo_vqa.remote.contract import Usage

_VERSION = 1
EXCUSED = "excused"  # what a reader marks an entry with that isn't held against its picture
REOPENED = "reopened"  # the entry that takes back an image's refusals and failures before it
DROPPED = "dropped"  # left out by the user's choice


@dataclass(frozen=True)
class Entry:
    """One reply.

    Attributes:
        image: path of the picture in the archive.
        key: fingerprint of the product's data and the picture's bytes; an entry of another key is
            about something else that had the same path.
        pairs, rejects: what the quality gate made of the reply when it came.
        finish: the vendor's finish reason.
        problem: "" , or why the image got no pairs: "blocked: …", "refused: …", "failed: …",
            "dropped: …"; or a note about earlier entries of the image: "reopened".
        usage: tokens paid for. price: share of the list price (the batch mode's is 0.5).
        model: the version that answered. time: Unix seconds.
        job: the batch job that the reply came with, or "".
    """

    image: str
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

    @property
    def offered(self) -> list[Pair]:
        """All pairs of the reply, to be judged again: the gate's rules may have changed."""
        return [*self.pairs, *(Pair(r.question, r.answer) for r in self.rejects)]

    @property
    def permanent(self) -> bool:
        """Whether asking again would be useless."""
        return self.problem.startswith(("blocked", "refused", DROPPED))

    @property
    def silent(self) -> bool:
        """Whether it says nothing about the picture."""
        return self.problem.startswith((EXCUSED, REOPENED))


def no_pairs(entry: Entry) -> str:
    """What the table of rejects says of a reply that holds no pair at all."""
    return f"no_pairs ({entry.finish or 'unreadable'})"


def _to_line(entry: Entry) -> str:
    return json.dumps(asdict(entry), ensure_ascii=False, separators=(",", ":")) + "\n"


def _from_record(record: Mapping[str, Any]) -> Entry:
    """An entry from a parsed line; raises KeyError or TypeError if it isn't one."""
    known = dict(record)
    known["pairs"] = tuple(Pair(**pair) for pair in record["pairs"])
    known["rejects"] = tuple(Reject(**reject) for reject in record["rejects"])
    known["usage"] = Usage(**record["usage"])
    return Entry(**known)


@dataclass
class Contents:
    """A journal as read: its header, its entries, and the lines that make no sense."""

    header: dict[str, Any]
    entries: list[Entry]
    broken: int = 0
    whole: int = 0  # bytes up to the end of the last whole line


def read_journal(path: Path) -> Contents:
    """Read a journal; a torn last line is left out, a damaged line within is counted.

    Raises:
        UserError: the file isn't a journal.
    """
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    contents = Contents({}, [], whole=whole)
    for number, line in enumerate(data[:whole].splitlines()):
        try:
            record = json.loads(line)
            if number == 0:
                contents.header = {"version": record["abo_vqa_journal"], **record}
            else:
                contents.entries.append(_from_record(record))
        except (ValueError, KeyError, TypeError):
            contents.broken += 1
    if whole and not contents.header:
        raise UserError(f"{path} isn't a journal of abo-vqa: its first line isn't the header.")
    if whole and contents.header["version"] != _VERSION:
        raise UserError(
            f"{path} is a journal of version {contents.header['version']}; this abo-vqa "
            f"reads version {_VERSION}."
        )
    return contents


class Journal:
    """A journal open for appending, by one process at a time and any number of its threads."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], shard: tuple[int, int] | None = None
    ) -> None:
        """Open or create it; cut off what a kill left half written.

        Args:
            settings: what the answers depend on, kept in the header.
            shard: (2, 5) for the second of five parts of the images.
        Raises:
            UserError: another process is writing to it.
        """
        from filelock import FileLock, Timeout

        self.path = path
        self.name = f"{path.parent.name}/{path.stem}"  # for the ledger
        path.parent.mkdir(parents=True, exist_ok=True)
        self.process_lock = FileLock(path.with_suffix(".lock"))
        try:
            self.process_lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                "another process is generating with these settings. Wait for it, or share the "
                "work with --shard 1/2 and --shard 2/2."
            ) from error
        self.lock = threading.Lock()
        self.torn = False
        self.handle = path.open("ab")
        contents = read_journal(path)
        if contents.whole < self.handle.tell():
            self.torn = True
            self.handle.truncate(contents.whole)
            self.handle.seek(0, os.SEEK_END)
        if not contents.header:
            header = {"abo_vqa_journal": _VERSION, "shard": shard, "settings": dict(settings)}
            self.write(json.dumps(header, ensure_ascii=False) + "\n")
        self.entries, self.broken = contents.entries, contents.broken

    def write(self, text: str) -> None:
        with self.lock:
            self.handle.write(text.encode())
            self.handle.flush()
            os.fsync(self.handle.fileno())

    def append(self, entry: Entry) -> None:
        """Put an entry on disk. When this returns, no crash can lose it."""
        self.write(_to_line(entry))

    def close(self) -> None:
        self.handle.close()
        self.process_lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def by_image(entries: Sequence[Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Entries by (image, key), in the order they came."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.image, entry.key), []).append(entry)
    return found


def now() -> float:
    return round(time.time(), 3)


def journals(folder: Path) -> Iterator[Path]:
    """The journals in a folder: the main one and those of shards."""
    yield from sorted(folder.glob("*.jsonl"))
