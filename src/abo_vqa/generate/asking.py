"""Asking for many images at once: up to the quota, within the budget, whatever goes wrong.

One thread decides what is sent and when; workers send, judge the reply and write it into the
journal. Whatever a later run must know is in the journal and the ledger before it counts, so there
is nothing left to save at the end.
"""

from __future__ import annotations

import heapq
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from abo_vqa.archive import ImageError
from abo_vqa.errors import ComeBackLater, Reclaimed, UserError
from abo_vqa.generate.gate import Gate
from abo_vqa.generate.journal import Entry, Journal, now
from abo_vqa.generate.ledger import Ledger, Quota, Wait, next_day
from abo_vqa.generate.money import Estimator, most_expensive, spent, usd
from abo_vqa.generate.pairs import (
    Annotator,
    BadKey,
    BadModel,
    DaySpent,
    Refused,
    Reply,
    Request,
    Throttled,
    Trouble,
)
from abo_vqa.generate.prompt import parse
from abo_vqa.generate.tasks import Task, picture, request_for

if TYPE_CHECKING:
    from abo_vqa.archive import Archive
    from abo_vqa.config import Generate

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between tries, unless the server asks for more
HOPELESS = 5  # requests refused before any was answered: it's the settings, not the image
NAP = 0.5  # a signal has to be noticed soon


@dataclass
class Key:
    """One API key at work. `number` is what messages call it; `name` is the ledger's."""

    number: int
    name: str
    annotator: Annotator
    throttled: int = 0  # in a row; requests that were on their way together count once
    paused_until: float = 0.0


@dataclass
class Flight:
    """A request on its way."""

    task: Task
    key: Key
    call: int
    text: Request  # without the picture


Outcome = Entry | Trouble | ImageError


@dataclass(order=True)
class Later:
    """A task that waits until `at` (Unix seconds)."""

    at: float
    number: int
    task: Task = field(compare=False)


class Asker:
    """Sends the requests of one run.

    Args:
        system: the instruction, the same for all images.
        shown: called after each reply with the number of open images and the USD spent so far.
    """

    def __init__(
        self,
        settings: Generate,
        system: str,
        gate: Gate,
        keys: Sequence[Key],
        journal: Journal,
        ledger: Ledger,
        archive: Archive,
        shown: Callable[[int, float], None],
    ) -> None:
        self.settings, self.system, self.gate = settings, system, gate
        self.keys, self.journal, self.ledger = list(keys), journal, ledger
        self.archive, self.shown = archive, shown
        self.quota = Quota(
            settings.requests_per_minute, settings.tokens_per_minute, settings.requests_per_day
        )
        self.estimator = Estimator.knowing(settings.image_size, journal.entries)
        self.cost = spent(journal.entries, settings)
        self.cost_lock = threading.Lock()
        self.ready: deque[Task] = deque()
        self.later: list[Later] = []
        self.flying: dict[Future[Outcome], Flight] = {}
        self.answers, self.failures_in_a_row = 0, 0
        self.last_answer = time.monotonic()
        self.outage_until = 0.0
        self.refused: list[tuple[Task, str]] = []
        # Why no more is sent. Called once the answers on their way are in, so that it counts right.
        self.stop: Callable[[], BaseException] | None = None
        self.dice = random.Random()

    def run(self, tasks: Sequence[Task]) -> None:
        """Ask until every task is complete or hopeless.

        Raises:
            ComeBackLater: daily quotas are spent, or the service doesn't answer.
            UserError: no usable key, no such model, or the budget is used up.
            KeyboardInterrupt, Reclaimed: once the answers on their way are saved.
        """
        self.ready.extend(tasks)
        with self.signals(), ThreadPoolExecutor(self.settings.concurrency) as pool:
            while self.flying or (self.open and not self.stop):
                pause = min(self.send(pool), NAP)
                if not self.flying:
                    time.sleep(pause)
                    continue
                done, _ = wait(self.flying, pause, FIRST_COMPLETED)
                for future in done:
                    self.settle(self.flying.pop(future), future.result())
                    self.shown(self.open, self.cost)
        if self.stop:
            raise self.stop()
        self.settle_refusals()

    @property
    def open(self) -> int:
        """Images that aren't finished."""
        return len(self.ready) + len(self.later) + len(self.flying)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Turn the first Ctrl-C or SIGTERM into a stop that waits for answers on their way."""

        def interrupt(*_: Any) -> None:
            if self.stop is KeyboardInterrupt:
                raise KeyboardInterrupt
            self.stop = KeyboardInterrupt

        def reclaim(*_: Any) -> None:
            self.stop = lambda: Reclaimed("everything is saved; run it again to go on")

        try:
            old = [signal.signal(signal.SIGINT, interrupt), signal.signal(signal.SIGTERM, reclaim)]
        except ValueError:  # not the main thread: whoever started us handles signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, old[0])
            signal.signal(signal.SIGTERM, old[1])

    # What is sent, and when

    def send(self, pool: ThreadPoolExecutor) -> float:
        """Submit what may go now; return the seconds until something more may."""
        moment = time.time()
        while self.later and self.later[0].at <= moment:
            self.ready.append(heapq.heappop(self.later).task)
        while self.ready and not self.stop and len(self.flying) < self.settings.concurrency:
            if self.outage_until > moment:
                return self.outage_until - moment
            task = self.ready[0]
            text = request_for(task, self.system, b"", self.gate)
            tokens = self.estimator.tokens(text)
            cost = most_expensive(self.estimator.at_most(text), self.settings)
            if self.over_budget(cost):
                return NAP
            permit = self.permit(tokens, cost)
            if isinstance(permit, Wait):
                return max(0.01, permit.until - time.time())
            self.ready.popleft()
            flight = Flight(task, *permit, text)
            self.flying[pool.submit(self.fly, flight)] = flight
        return max(0.01, self.later[0].at - moment) if self.later else NAP

    def over_budget(self, cost: float) -> bool:
        """Whether one more request could exceed the budget; with none on its way that is final."""
        budget = self.settings.budget_usd
        if budget is None:
            return False
        # In this order: what is answered meanwhile counts twice for a moment, never not at all.
        reserved = self.ledger.unaccounted(self.journal.name)
        committed = reserved + self.cost
        if committed + cost <= budget:
            return False
        if not self.flying:
            self.stop = lambda: UserError(
                f"generate.budget_usd: the next request might exceed {budget:g} USD; about "
                f"{committed:.4f} are spent and {self.open:,} images are open. Everything is "
                "saved: raise the budget and run again."
            )
        return True

    def permit(self, tokens: int, cost: float) -> tuple[Key, int] | Wait:
        """A key that may send now, and the call's number; or the shortest wait."""
        waits = []
        for key in list(self.keys):
            found = self.ledger.reserve(
                key.name, self.settings.model, self.quota, tokens, cost, self.journal.name
            )
            if isinstance(found, int):
                self.keys.remove(key)  # the next request goes to the next key
                self.keys.append(key)
                return key, found
            waits.append(found)
        if all(found.day for found in waits):
            until = min(found.until for found in waits)
            self.stop = lambda: self.day_is_over(until)
            return Wait(time.time())
        return min(waits, key=lambda found: found.until)

    def day_is_over(self, until: float) -> ComeBackLater:
        back = datetime.fromtimestamp(until).astimezone()
        keys = "the key's daily quota is" if len(self.keys) == 1 else "all keys' daily quotas are"
        return ComeBackLater(
            f"{keys} spent; {self.open:,} images are open and everything is saved. "
            f"Come back at {back:%Y-%m-%d %H:%M %Z}."
        )

    # In a worker

    def fly(self, flight: Flight) -> Outcome:
        """Send one request; its reply is on disk when this returns."""
        task = flight.task
        try:
            image = picture(self.archive, task.path, self.settings.image_size)
        except ImageError as error:
            self.ledger.finish(flight.call)
            return error
        try:
            reply = flight.key.annotator.ask(Request(self.system, flight.text.text, image))
        except Trouble as error:
            self.ledger.finish(flight.call, known=not error.billed)
            return error
        entry = to_entry(task, reply, self.gate)
        self.journal.append(entry)
        with self.cost_lock:  # before the reservation goes: see `over_budget`
            self.cost += usd(entry.usage, self.settings, entry.price)
        self.ledger.finish(flight.call, reply.usage.input or None)
        return entry

    # What became of it

    def settle(self, flight: Flight, outcome: Outcome) -> None:
        """Note a request's outcome, and decide whether its image is asked about again."""
        task, key = flight.task, flight.key
        if isinstance(outcome, ImageError):
            task.dead = f"unreadable: {outcome.reason}"
        elif isinstance(outcome, Entry):
            self.answered(task, key, outcome)
            self.estimator.learn(flight.text, outcome.usage.input)
        elif isinstance(outcome, Throttled):
            self.throttle(key, outcome.delay)
            self.ready.appendleft(task)
            self.lose_patience(outcome)
        elif isinstance(outcome, DaySpent):
            moment = next_day(time.time())
            self.ledger.pause(key.name, self.settings.model, moment, day=True)
            self.ready.appendleft(task)
        elif isinstance(outcome, BadKey):
            self.drop_key(key, outcome)
            self.ready.appendleft(task)
        elif isinstance(outcome, BadModel):
            self.stop = lambda: UserError(
                f"generate.model: {self.settings.model!r} doesn't exist or is retired. Set it in "
                f"params.yaml to a current one, e.g. gemini-3.5-flash-lite. ({outcome})"
            )
        elif isinstance(outcome, Refused):
            self.refuse(task, outcome)
        else:
            self.failed(task, outcome)

    def answered(self, task: Task, key: Key, entry: Entry) -> None:
        self.answers += 1
        self.failures_in_a_row = key.throttled = task.tries = 0
        self.last_answer = time.monotonic()
        task.absorb(entry, self.gate)
        if task.left(self.gate, self.settings.attempts):
            self.ready.appendleft(task)

    def failed(self, task: Task, error: Trouble) -> None:
        """A server error, a timeout, a dropped connection: later again, up to a limit.

        Failures count against the image once others got answers meanwhile. Until then it may be
        an outage, which is no image's fault and which `lose_patience` ends.
        """
        if task.tries == 0:
            task.marked = self.answers
        task.tries += 1
        if task.tries >= self.settings.attempts and self.answers > task.marked:
            self.write_failure(task, error)
        if task.left(self.gate, self.settings.attempts):
            pause = max(error.delay or 0, self.backoff(task.tries))
            heapq.heappush(self.later, Later(time.time() + pause, id(task), task))
        self.failures_in_a_row += 1
        if self.failures_in_a_row >= 10:  # not this image: everyone
            pause = self.backoff(self.failures_in_a_row // 10)
            self.outage_until = max(self.outage_until, time.time() + pause)
        self.lose_patience(error)

    def write_failure(self, task: Task, error: Trouble) -> None:
        """Note that an image failed; `tasks.ROUNDS` such notes, and it is left out for good."""
        entry = Entry(task.path, task.key, problem=f"failed: {error}", time=now())
        self.journal.append(entry)
        task.absorb(entry, self.gate)
        task.tries = 0

    def lose_patience(self, error: Trouble) -> None:
        if time.monotonic() - self.last_answer > self.settings.patience_s and not self.stop:
            for later in self.later:  # lest an image that always fails keeps us forever
                if later.task.tries >= self.settings.attempts:
                    self.write_failure(later.task, error)
            self.stop = lambda: ComeBackLater(
                f"no answer for {self.settings.patience_s:g} s; last: {error}. "
                f"{self.open:,} images are open and everything is saved: run it again later."
            )

    def backoff(self, times: int) -> float:
        """Seconds to wait after so many failures: doubled each time, with jitter."""
        return float(
            min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(times - 1, 9)) * self.dice.uniform(0.5, 1.0)
        )

    def throttle(self, key: Key, delay: float | None) -> None:
        """Rest a key: as long as the server asks, else ever longer."""
        moment = time.time()
        if moment >= key.paused_until:
            key.throttled += 1
            key.paused_until = moment + self.backoff(key.throttled)
        if delay:
            key.paused_until = max(key.paused_until, moment + delay)
        self.ledger.pause(key.name, self.settings.model, key.paused_until)

    def drop_key(self, key: Key, error: BadKey) -> None:
        if key in self.keys:
            self.keys.remove(key)
        if not self.keys:
            self.stop = lambda: UserError(
                f"no usable API key; the last one was turned down with: {error}. Check "
                "GEMINI_API_KEY or GEMINI_API_KEYS in the environment."
            )
        elif not self.stop:
            print(f"key number {key.number} is left out: {error}", flush=True)

    def refuse(self, task: Task, error: Refused) -> None:
        """The vendor won't take it. Whether it's the image shows once others get through."""
        self.refused.append((task, str(error)))
        if self.answers:
            self.settle_refusals()
        elif len(self.refused) >= HOPELESS and not self.stop:
            self.stop = lambda: UserError(
                f"the first {len(self.refused)} requests were all refused: {error}. Check the "
                "settings under generate in params.yaml."
            )

    def settle_refusals(self) -> None:
        """Write refused images down: they aren't asked about again."""
        for task, message in self.refused:
            entry = Entry(task.path, task.key, problem=f"refused: {message}", time=now())
            self.journal.append(entry)
            task.absorb(entry, self.gate)
        self.refused.clear()


def to_entry(task: Task, reply: Reply, gate: Gate, price: float = 1.0, job: str = "") -> Entry:
    """A reply as the journal keeps it."""
    accepted, rejects = gate.sift(parse(reply.text), task.product, task.pairs)
    return Entry(
        task.path,
        task.key,
        tuple(accepted),
        tuple(rejects),
        finish=reply.finish,
        problem=f"blocked: {reply.blocked}" if reply.blocked else "",
        usage=reply.usage,
        price=price,
        model=reply.model,
        time=now(),
        job=job,
    )
