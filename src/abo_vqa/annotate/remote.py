"""Generation by a paid model: journal, ledger, keys and pictures put together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.annotate.asking import Asker
from abo_vqa.annotate.explain import losses
from abo_vqa.annotate.flights import Key
from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.prompt import instruction, settings_record
from abo_vqa.annotate.tasks import Task, in_shard, make_tasks
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.scratch import scratch
from abo_vqa.core.summary import Log
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.pairs import Product
from abo_vqa.remote.budget import spent
from abo_vqa.remote.contract import Annotator
from abo_vqa.remote.journal import DROPPED, REOPENED, Entry, Journal, journals, now, read_journal
from abo_vqa.remote.keys import api_keys, key_id
from abo_vqa.remote.ledger import Ledger
from abo_vqa.remote.streaks import excuse, reopened

if TYPE_CHECKING:
    from abo_vqa.config import Config, GenerateConfig

_Shard = tuple[int, int]
_LOG_EVERY = 10.0  # seconds between points of MLflow's histories


def journal_folder(settings: GenerateConfig) -> Path:
    """Where the answers given under these settings are kept."""
    return scratch("generate", fingerprint(settings_record(settings)))


def _journal_name(shard: _Shard | None) -> str:
    return f"shard-{shard[0]}-of-{shard[1]}.jsonl" if shard else "main.jsonl"


def known_entries(folder: Path) -> list[Entry]:
    """Everything that was ever answered under these settings, by this checkout and its shards.

    What isn't the pictures' own fault is marked: see `streaks.excuse`.
    """
    found = [entry for path in journals(folder) for entry in excuse(read_journal(path).entries)]
    return reopened(found)


@dataclass(frozen=True)
class Exceptions:
    """What a user asks for once.

    Attributes:
        retry_days: try keys again that were told their daily quota is spent.
        retry_refused: ask again about images that were refused, failed, or left out by choice.
        drop_failing: leave out for good what is refused or gets no pairs, however many fail alike.
    """

    retry_days: bool = False
    retry_refused: bool = False
    drop_failing: bool = False


def _annotator_class(name: str) -> type[Any]:
    if name == "gemini":
        from abo_vqa.remote.gemini import Gemini

        return Gemini
    from abo_vqa.remote.gemini_legacy import GeminiLegacy

    return GeminiLegacy


@contextmanager
def annotators(settings: GenerateConfig) -> Iterator[list[tuple[str, Annotator]]]:
    """A client for each key in the environment: (the key's id, the client)."""
    keys = api_keys()
    with ExitStack() as stack:
        made = []
        for key in keys:
            annotator = _annotator_class(settings.annotator)(key, settings, keys)
            stack.callback(annotator.close)
            made.append((key_id(key), annotator))
        yield made


class _Shown:
    """The progress bar, and the running cost in MLflow."""

    def __init__(self, total: int, left: int, log: Log) -> None:
        import sys

        from tqdm import tqdm

        interval = 0.2 if sys.stderr.isatty() else 10.0
        self.total, self.log, self.logged = total, log, time.monotonic()
        self.bar = tqdm(
            total=total, initial=total - left, desc="asking", unit="image", mininterval=interval
        )

    def __call__(self, left: int, cost: float) -> None:
        self.bar.set_postfix_str(f"{cost:.4f} USD", refresh=False)
        self.bar.update(self.total - left - self.bar.n)
        if time.monotonic() - self.logged > _LOG_EVERY:
            self.logged = time.monotonic()
            done = self.total - left
            self.log({"cost_usd": cost, "images_done": done}, done)

    def close(self) -> None:
        self.bar.close()


@dataclass(frozen=True)
class _Work:
    """Where an annotation of some products stands."""

    tasks: list[Task]
    journal: Path
    cost: float
    tokens: Mapping[str, float]


def annotate(
    config: Config,
    products: Sequence[Product],
    gate: Gate,
    log: Log,
    shard: _Shard | None = None,
    exceptions: Exceptions = Exceptions(),
) -> _Work:
    """Ask for whatever the journals don't have yet.

    Args:
        shard: (i, n) for the i-th of n parts of the images.
    Raises:
        ComeBackLater, UserError: see `Asker.run`; everything answered so far is kept.
    """
    settings = config.generate
    folder = journal_folder(settings)
    with Journal(folder / _journal_name(shard), settings_record(settings), shard) as journal:
        if journal.torn:
            print(f"{journal.path.name}: cut off a line that a crash left unfinished")
        mine = [product for product in products if in_shard(product["image_path"], shard)]
        tasks = make_tasks(mine, known_entries(folder), gate, config)
        if exceptions.retry_refused:
            _reopen(tasks, journal)
            tasks = make_tasks(mine, known_entries(folder), gate, config)
        left = [task for task in tasks if task.left(gate, settings.attempts)]
        if left:
            with open_archive(config.data.raw) as archive:
                ask(config, gate, journal, archive, left, log, exceptions)
            if exceptions.drop_failing:
                drop(left, gate, journal)
            for line in losses(left, settings):
                print(line, flush=True)
        entries = read_journal(journal.path).entries
    usage = {
        "input_tokens": float(sum(entry.usage.input for entry in entries)),
        "output_tokens": float(sum(entry.usage.output for entry in entries)),
    }
    return _Work(tasks, journal.path, spent(entries, settings), usage)


def _reopen(tasks: Sequence[Task], journal: Journal) -> None:
    """Note that refusals and failures so far don't count."""
    for task in tasks:
        if task.dead.startswith(("refused", DROPPED)) or task.failures:
            journal.append(Entry(task.path, task.key, problem=REOPENED, time=now()))


def drop(tasks: Sequence[Task], gate: Gate, journal: Journal) -> None:
    """Note that the user gave up on images without pairs; a streak of them is excused otherwise."""
    for task in tasks:
        if not task.complete(gate) and not task.dead.startswith((DROPPED, "unreadable")):
            why = task.dead or task.empty or "too few good pairs"
            journal.append(Entry(task.path, task.key, problem=f"{DROPPED}: {why}", time=now()))


def ask(
    config: Config,
    gate: Gate,
    journal: Journal,
    archive: Archive,
    left: Sequence[Task],
    log: Log,
    exceptions: Exceptions,
) -> None:
    """One round of asking, by batch jobs or one request at a time."""
    settings = config.generate
    system = instruction(settings.prompt, settings.questions, settings.allow_brands)
    shown = _Shown(len(left), len(left), log)
    ledger = Ledger(scratch("generate", "quota") / "calls.sqlite")
    try:
        if exceptions.retry_days:
            ledger.forget_days()
        with annotators(settings) as made:
            if settings.batch:
                from abo_vqa.annotate.batch import run_batches

                run_batches(
                    settings, system, gate, made, journal, archive, left, shown,
                    exceptions.drop_failing,
                )  # fmt: skip
                return
            keys = [Key(i, name, client) for i, (name, client) in enumerate(made, 1)]
            Asker(
                settings, system, gate, keys, journal, ledger, archive, shown,
                exceptions.drop_failing,
            ).run(left)  # fmt: skip
    finally:
        shown.close()
        ledger.close()


def parse_shard(text: str) -> _Shard:
    """ "2/5" → (2, 5).

    Raises:
        UserError: it isn't of that form.
    """
    number, _, parts = text.partition("/")
    if number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts):
        return int(number), int(parts)
    raise UserError(f"--shard {text!r}: expected I/N with 1 <= I <= N, e.g. 2/5.")
