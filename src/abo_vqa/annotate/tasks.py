"""What is left to do: an image's state, restored from the journal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.prompt import cleaned, user_text, yes_or_no
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.data.pairs import Pair, Product, Reject
from abo_vqa.remote.contract import Request
from abo_vqa.remote.journal import Entry, by_image, no_pairs

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.data.archive import Archive

ROUNDS = 3  # how often an image may be written down as failed before it is given up
_SAME = 3  # replies without a pair, all for the same reason, before an image is given up
# After these the next reply will hardly be better: two are enough.
_STUBBORN = ("MAX_TOKENS", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "LANGUAGE")


@dataclass
class Task:
    """One image on its way to N pairs.

    Attributes:
        key: fingerprint of what the answers depend on beside the settings.
        pairs, rejects: what the gate made of all replies so far.
        replies: how many there were. failures: how often the image was written down as failed.
        empty, in_a_row: why the last replies held no pair at all (""; they did), and how many.
        dead: why the vendor never answers, or "".
        tries, marked: failed requests in a row, and the count of answers to others at the first.
    """

    product: Product
    key: str
    yes_no: str
    pairs: list[Pair] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    replies: int = 0
    failures: int = 0
    empty: str = ""
    in_a_row: int = 0
    dead: str = ""
    tries: int = 0
    marked: int = 0

    @property
    def path(self) -> str:
        return self.product["image_path"]

    def complete(self, gate: Gate) -> bool:
        return len(self.pairs) >= gate.questions

    def left(self, gate: Gate, attempts: int) -> bool:
        """Whether there is something to ask, and reason to hope."""
        return not (
            self.complete(gate)
            or self.dead
            or self.replies >= attempts
            or self.failures >= ROUNDS
            or self.in_a_row >= self.patience
        )

    @property
    def patience(self) -> int:
        """How often the same empty reply is paid for."""
        return 2 if any(reason in self.empty for reason in _STUBBORN) else _SAME

    def absorb(self, entry: Entry, gate: Gate) -> None:
        """Take a reply into account, by the gate's present rules."""
        if entry.silent:
            return
        if entry.problem.startswith("failed"):
            self.failures += 1
            return
        self.replies += 1
        if entry.permanent:
            self.dead = entry.problem
            return
        missing = gate.questions - len(self.pairs)
        accepted, rejects = gate.sift(entry.offered, self.product, self.pairs)
        self.pairs += accepted
        self.rejects += rejects
        empty = "" if entry.offered else no_pairs(entry)
        self.in_a_row = self.in_a_row + 1 if empty and empty == self.empty else int(bool(empty))
        self.empty = empty
        if empty:
            self.rejects.append(Reject("", "", empty))
        elif len(entry.offered) < missing:
            self.rejects.append(Reject("", "", "too_few"))

    def outcome(self, gate: Gate, attempts: int) -> str:
        """Why the image isn't in the set, or "" if it is."""
        if self.complete(gate):
            return ""
        if self.dead:
            return self.dead.partition(":")[0]
        if self.failures >= ROUNDS and self.replies < attempts:
            return "failed"
        return "open" if self.left(gate, attempts) else "too_few_good_pairs"


def task_key(product: Product) -> str:
    """What an answer depends on beside the settings: the catalogue's words and the picture."""
    brand = product.get("brand", "")  # the gate looks at it
    return fingerprint([cleaned(product), brand, product.get("image_sha1", "")])


def make_tasks(
    products: Iterable[Product], entries: Sequence[Entry], gate: Gate, config: Config
) -> list[Task]:
    """A task a product, with what the journal knows about it."""
    known: Mapping[tuple[str, str], list[Entry]] = by_image(entries)
    tasks = []
    for product in products:
        hint = yes_or_no(product["image_path"], config.seed, config.generate.yes_share)
        task = Task(product, task_key(product), hint)
        for entry in known.get((task.path, task.key), ()):
            task.absorb(entry, gate)
        tasks.append(task)
    return tasks


def in_shard(path: str, shard: tuple[int, int] | None) -> bool:
    """Whether an image belongs to part i of n; by its path, so that it never changes parts."""
    if shard is None:
        return True
    number, parts = shard
    digest = hashlib.sha256(path.encode()).digest()
    return int.from_bytes(digest[:8], "big") % parts == number - 1


def picture(archive: Archive, path: str, size: int) -> bytes:
    """A JPEG of at most `size` pixels a side; the archive's own bytes where they fit.

    Raises:
        ImageError: the picture can't be read.
    """
    return archive.jpeg(path, size)


def request_for(task: Task, system: str, image: bytes, gate: Gate) -> Request:
    """Ask for the pairs that are missing."""
    wanted = gate.questions - len(task.pairs)
    text = user_text(task.product, wanted, task.pairs, task.yes_no, gate.questions)
    return Request(system, text, image)
