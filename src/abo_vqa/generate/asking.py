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
from datetime import datetime
from typing import TYPE_CHECKING, Any

from abo_vqa.archive import ImageError
from abo_vqa.errors import ComeBackLater, Reclaimed, UserError
from abo_vqa.generate.explain import in_a_row
from abo_vqa.generate.flights import Flight, Key, Later, Outcome, to_entry
from abo_vqa.generate.gate import Gate
from abo_vqa.generate.journal import Entry, Journal, now
from abo_vqa.generate.ledger import Ledger, Quota, Wait, next_day
from abo_vqa.generate.money import Estimator, most_expensive, spent, usd
from abo_vqa.generate.pairs import (
    BadAccount,
    BadKey,
    BadModel,
    DaySpent,
    NoQuota,
    Refused,
    Request,
    Throttled,
    Trouble,
)
from abo_vqa.generate.refusals import Refusal, Refusals, control_picture, control_task
from abo_vqa.generate.streaks import ALIKE, Streak, fruitless
from abo_vqa.generate.tasks import Task, picture, request_for

if TYPE_CHECKING:
    from abo_vqa.archive import Archive
    from abo_vqa.config import Generate

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between tries, unless the server asks for more
NAP = 0.5  # a signal has to be noticed soon
STILL_THROTTLED = 3  # pauses after which a quota per day that was named, too, is taken for spent


class Asker:
    """Sends the requests of one run.

    Args:
        system: the instruction, the same for all images.
        shown: called after each reply with the number of open images and the USD spent so far.
        drop_failing: hold refusals and empty replies against their pictures, however many fail
            alike.
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
        drop_failing: bool = False,
    ) -> None:
        self.settings, self.system, self.gate = settings, system, gate
        self.keys, self.journal, self.ledger = list(keys), journal, ledger
        self.archive, self.shown, self.drop_failing = archive, shown, drop_failing
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
        self.refusals, self.fruitless = Refusals(), Streak()
        self.last_answer = time.monotonic()
        self.outage_until = 0.0
        self.quota_text = ""  # the vendor's, when it last called a daily quota spent
        # Why no more is sent. Called once the answers on their way are in, so that it counts right.
        self.stop: Callable[[], BaseException] | None = None
        self.dice = random.Random()

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
            while self.flying or (self.open and not self.stop):
                pause = min(self.send(pool), NAP)
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
        while self.ready and not self.stop and len(self.flying) < self.most_flying:
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

    @property
    def most_flying(self) -> int:
        """Requests at a time: few until a reply has brought pairs, lest many are paid in vain."""
        most = self.settings.concurrency
        return most if self.fruitless.good or self.drop_failing else min(most, ALIKE)

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
        except Trouble as error:
            self.ledger.finish(flight.call, known=not error.billed)
            return error
        flight.said = reply.text
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
            self.answered(flight, outcome)
            self.estimator.learn(flight.text, outcome.usage.input)
        elif isinstance(outcome, (Throttled, DaySpent)):
            self.ready.appendleft(task)
            self.out_of_quota(key, outcome)
        elif isinstance(outcome, BadKey):
            self.drop_key(key, outcome)
            self.ready.appendleft(task)
        elif isinstance(outcome, BadModel):
            self.stop = lambda: UserError(
                f"generate.model: {self.settings.model!r} doesn't exist or is retired. Set it in "
                f"params.yaml to a current one, e.g. gemini-3.5-flash-lite. ({outcome})"
            )
        elif isinstance(outcome, Refused):
            self.refuse(flight, outcome)
        else:
            self.failed(task, outcome)

    def answered(self, flight: Flight, entry: Entry) -> None:
        task, first = flight.task, flight.task.replies == 0
        self.answers += 1
        self.failures_in_a_row = flight.key.throttled = task.tries = 0
        self.last_answer = time.monotonic()
        self.write_refusals(flight.sent)
        task.absorb(entry, self.gate)
        if task.left(self.gate, self.settings.attempts):
            # An empty reply may be everybody's: ask about others before paying for another.
            (self.ready.append if task.empty else self.ready.appendleft)(task)
        self.look_for_streak(flight, entry, first)

    def look_for_streak(self, flight: Flight, entry: Entry, first: bool) -> None:
        """Stop once picture after picture gets no pair: more of the same would be paid in vain."""
        kind = fruitless(entry)
        if not kind:
            self.fruitless.success()
        elif first:
            self.fruitless.failure(flight.task.path, kind)
        if kind and self.fruitless.hopeless and not self.drop_failing and not self.stop:
            n, sample = len(self.fruitless.kinds), "" if entry.offered else flight.said
            self.stop = lambda: UserError(in_a_row(n, kind, self.settings, sample))

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

    def out_of_quota(self, key: Key, error: Throttled | DaySpent) -> None:
        """Rest a key until its quota is there again: the minute's, or the day's."""
        moment = time.time()
        if isinstance(error, Throttled):
            far = (error.delay or 0) > self.settings.patience_s
            if not far and not (error.day and key.throttled >= STILL_THROTTLED):
                self.throttle(key, error.delay)
                self.lose_patience(error)
                return
            back = moment + (error.delay or 0) if far else next_day(moment)
        else:
            back = next_day(moment)
        self.quota_text = str(error)
        self.ledger.pause(key.name, self.settings.model, back, day=True)

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
        if key not in self.keys:  # said already, by another request of the same moment
            return
        self.keys.remove(key)
        if self.keys:
            if not self.stop:
                print(f"key number {key.number} is left out: {error}", flush=True)
            return
        if isinstance(error, NoQuota):
            advice = (
                f"Its quota for generate.model {self.settings.model!r} is 0, today and any day: "
                "choose a model of the key's plan, or change the plan."
            )
        elif isinstance(error, BadAccount):
            advice = (
                "It is the account that is refused, not a picture: look at its billing, region "
                "and state in the vendor's console."
            )
        else:
            advice = "Check GEMINI_API_KEY or GEMINI_API_KEYS in the environment."
        self.stop = lambda: UserError(
            f"no usable API key; the last one was turned down with: {error}. {advice} "
            f"{self.open:,} images are open and everything is saved: run it again to go on."
        )

    def refuse(self, flight: Flight, error: Refused) -> None:
        """The vendor won't take it. Whether it's the image shows once others get through."""
        self.refusals.add(flight.task, error, flight.ended)
        if self.refusals.streak.hopeless and not self.drop_failing and not self.stop:
            self.stop = lambda: self.all_refused(str(error))

    def all_refused(self, said: str) -> UserError:
        open_images = self.open + len(self.refusals.pending)
        return UserError(
            f"the last {len(self.refusals.streak.kinds)} requests were all refused: {said}. No "
            "picture is given up for this. Check the settings under generate in params.yaml and "
            f"the account; {open_images:,} images are open and everything is saved: run it again "
            "to go on. If it is those pictures' own fault: abo-vqa generate --drop-failing."
        )

    def write_refusals(self, sent: float) -> None:
        """Write down the refusals that an answer shows to be the images' own."""
        for refusal in self.refusals.answered(sent):
            self.write_refusal(refusal)

    def write_refusal(self, refusal: Refusal, *, chosen: bool = False) -> None:
        entry = refusal.entry(chosen=chosen)
        self.journal.append(entry)
        refusal.task.absorb(entry, self.gate)

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
                time.sleep(min(NAP, max(0.01, permit.until - time.time())))
        key, call = permit
        try:
            key.annotator.ask(Request(self.system, text.text, control_picture()))
        except Trouble as error:
            self.ledger.finish(call, known=not error.billed)
            self.control_failed(key, error)
            return False
        self.ledger.finish(call, known=False)  # no entry tells its price: it counts as reserved
        return True

    def control_failed(self, key: Key, error: Trouble) -> None:
        """Say what the failure says; a refusal is left to the caller."""
        if isinstance(error, BadKey):
            self.drop_key(key, error)
        if not isinstance(error, (BadKey, Refused)):
            waiting = len(self.refusals.pending)
            self.stop = lambda: ComeBackLater(
                f"{waiting:,} images were refused, and whether that is their own fault can't be "
                f"told now: {error}. Everything is saved: run it again later."
            )
