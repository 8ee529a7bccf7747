"""Asking for many images at once: up to the quota, within the budget, whatever goes wrong.

One thread decides what is sent and when; workers send, judge the reply and write it into the
journal. Whatever a later run must know is in the journal and the ledger before it counts, so there
is nothing left to save at the end.
"""

from __future__ import annotations

import heapq
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from abo_vqa.annotate.flights import Flight, Key, Outcome, to_entry
from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.refusals import control_picture, control_task
from abo_vqa.annotate.settling import Settling
from abo_vqa.annotate.tasks import Task, picture, request_for
from abo_vqa.core.errors import RetryLaterError, TerminatedError, UserError
from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.budget import most_expensive, spent, usd
from abo_vqa.remote.contract import Request
from abo_vqa.remote.errors import InvalidKeyError, RequestRefusedError, ServiceError
from abo_vqa.remote.journal import Journal
from abo_vqa.remote.ledger import Ledger, Quota, Wait
from abo_vqa.remote.streaks import ALIKE

if TYPE_CHECKING:
    from abo_vqa.config import GenerateConfig
    from abo_vqa.data.archive import Archive

FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between tries, unless the server asks for more
_NAP = 0.5  # a signal has to be noticed soon


class Asker(Settling):
    """Sends the requests of one run.

    Args:
        system: the instruction, the same for all images.
        shown: called after each reply with the number of open images and the USD spent so far.
        drop_failing: hold refusals and empty replies against their pictures, however many fail
            alike.
    """

    def __init__(
        self,
        settings: GenerateConfig,
        system: str,
        gate: Gate,
        keys: Sequence[Key],
        journal: Journal,
        ledger: Ledger,
        archive: Archive,
        shown: Callable[[int, float], None],
        drop_failing: bool = False,
    ) -> None:
        super().__init__(settings, gate, keys, journal, ledger, drop_failing)
        self.system, self.archive, self.shown = system, archive, shown
        self.quota = Quota(
            settings.requests_per_minute, settings.tokens_per_minute, settings.requests_per_day
        )
        self.cost = spent(journal.entries, settings)
        self.cost_lock = threading.Lock()

    def run(self, tasks: Sequence[Task]) -> None:
        """Ask until every task is complete or hopeless.

        Raises:
            ComeBackLater: daily quotas are spent, or the service doesn't answer.
            UserError: no usable key, no such model, picture after picture fails alike, or the
                budget is used up.
            KeyboardInterrupt, Reclaimed: once the answers on their way are saved.
        """
        self.ready.extend(tasks)
        with self.signals(), ThreadPoolExecutor(self.settings.concurrency) as pool:
            while self.flying or ((self.ready or self.later) and not self.stop):
                pause = min(self.send(pool), _NAP)
                if not self.flying:
                    time.sleep(pause)
                    continue
                done, _ = wait(self.flying, pause, FIRST_COMPLETED)
                for future in sorted(done, key=lambda future: self.flying[future].ended):
                    self.settle(self.flying.pop(future), future.result())
                    self.shown(self.open, self.cost)
        if not self.stop:
            self.settle_refusals()
        if self.stop:
            raise self.stop()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Turn the first Ctrl-C or SIGTERM into a stop that waits for answers on their way."""

        def interrupt(*_: Any) -> None:
            if self.stop is KeyboardInterrupt:
                raise KeyboardInterrupt
            self.stop = KeyboardInterrupt

        def reclaim(*_: Any) -> None:
            self.stop = lambda: TerminatedError("everything is saved; run it again to go on")

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
        while self.ready and not self.stop and len(self.flying) < self.most_flying:
            if self.outage_until > moment:
                return self.outage_until - moment
            task = self.ready[0]
            text = request_for(task, self.system, b"", self.gate)
            tokens = self.estimator.tokens(text)
            cost = most_expensive(self.estimator.at_most(text), self.settings)
            if self.over_budget(cost):
                return _NAP
            permit = self.permit(tokens, cost)
            if isinstance(permit, Wait):
                return max(0.01, permit.until - time.time())
            self.ready.popleft()
            flight = Flight(task, *permit, text)
            self.flying[pool.submit(self.fly, flight)] = flight
        return max(0.01, self.later[0].at - moment) if self.later else _NAP

    @property
    def most_flying(self) -> int:
        """Requests at a time: few until a reply has brought pairs, lest many are paid in vain."""
        most = self.settings.concurrency
        if self.fruitless.good or self.drop_failing:
            return most
        return min(most, max(1, ALIKE - len(self.fruitless.kinds)))

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

    def day_is_over(self, until: float) -> RetryLaterError:
        back = datetime.fromtimestamp(until).astimezone()
        keys = "the key's daily quota is" if len(self.keys) == 1 else "all keys' daily quotas are"
        return RetryLaterError(
            f"{keys} spent; {self.open:,} images are open and everything is saved. "
            f"Come back at {back:%Y-%m-%d %H:%M %Z}."
            + (f" The service says: {self.quota_text}" if self.quota_text else "")
        )

    # In a worker

    def fly(self, flight: Flight) -> Outcome:
        """Send one request; its reply is on disk when this returns."""
        try:
            return self.send_one(flight)
        finally:
            flight.ended = time.time()

    def send_one(self, flight: Flight) -> Outcome:
        task = flight.task
        try:
            image = picture(self.archive, task.path, self.settings.image_size)
        except ImageError as error:
            self.ledger.finish(flight.call)
            return error
        flight.sent = time.time()
        try:
            reply = flight.key.annotator.ask(Request(self.system, flight.text.text, image))
        except ServiceError as error:
            self.ledger.finish(flight.call, known=not error.billed)
            return error
        flight.said = reply.text
        entry = to_entry(task, reply, self.gate)
        self.journal.append(entry)
        with self.cost_lock:  # before the reservation goes: see `over_budget`
            self.cost += usd(entry.usage, self.settings, entry.price)
        self.ledger.finish(flight.call, reply.usage.input or None)
        return entry

    def backoff(self, times: int) -> float:
        """Seconds to wait after so many failures: doubled each time, with jitter."""
        return float(
            min(_LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(times - 1, 9)) * self.dice.uniform(0.5, 1.0)
        )

    # When nothing is left to ask

    def settle_refusals(self) -> None:
        """Decide about refusals after which nothing was left to ask."""
        pending = self.refusals.pending
        single = len(pending) == 1 and self.answers > 0
        if pending and not single and not self.drop_failing and not self.control_answered():
            said = pending[-1].message
            self.stop = self.stop or (lambda: self.all_refused(said))
            return
        for refusal in self.refusals.take():
            self.write_refusal(refusal, chosen=self.drop_failing)

    def control_answered(self) -> bool:
        """Whether a request that nothing is wrong with is answered now."""
        task = control_task()
        text = request_for(task, self.system, b"", self.gate)
        cost = most_expensive(self.estimator.at_most(text), self.settings)
        permit: tuple[Key, int] | Wait = Wait(time.time())
        while isinstance(permit, Wait):
            if self.stop or self.over_budget(cost):
                return False
            permit = self.permit(self.estimator.tokens(text), cost)
            if isinstance(permit, Wait):
                time.sleep(min(_NAP, max(0.01, permit.until - time.time())))
        key, call = permit
        try:
            key.annotator.ask(Request(self.system, text.text, control_picture()))
        except ServiceError as error:
            self.ledger.finish(call, known=not error.billed)
            self.control_failed(key, error)
            return False
        self.ledger.finish(call, known=False)  # no entry tells its price: it counts as reserved
        return True

    def control_failed(self, key: Key, error: ServiceError) -> None:
        """Say what the failure says; a refusal is left to the caller."""
        if isinstance(error, InvalidKeyError):
            self.drop_key(key, error)
        if not isinstance(error, (InvalidKeyError, RequestRefusedError)):
            waiting = len(self.refusals.pending)
            self.stop = lambda: RetryLaterError(
                f"{waiting:,} images were refused, and whether that is their own fault can't be "
                f"told now: {error}. Everything is saved: run it again later."
            )
