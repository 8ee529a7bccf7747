"""What became of the requests: which images are asked about again, and when a run must stop."""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from abo_vqa.annotate.explain import in_a_row
from abo_vqa.annotate.flights import Flight, Key, Later, Outcome
from abo_vqa.annotate.gate import Gate
from abo_vqa.annotate.refusals import Refusal, Refusals
from abo_vqa.annotate.tasks import Task
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.data.image_files import ImageError
from abo_vqa.remote.budget import Estimator
from abo_vqa.remote.errors import (
    AccountError,
    DailyQuotaError,
    InvalidKeyError,
    NoQuotaError,
    RequestRefusedError,
    ServiceError,
    ThrottledError,
    UnknownModelError,
)
from abo_vqa.remote.journal import Entry, Journal, now
from abo_vqa.remote.ledger import Ledger, next_day
from abo_vqa.remote.streaks import Streak, fruitless

if TYPE_CHECKING:
    from abo_vqa.config import GenerateConfig

_STILL_THROTTLED = 3  # pauses after which a quota per day that was named, too, is taken for spent


class Settling:
    """The state of one run's images, keys and failures, and how outcomes change it.

    Attributes:
        ready, later, flying: images to ask about, those that wait, and requests on their way.
        answers, failures_in_a_row: replies so far, and requests that failed since the last one.
        outage_until: until when (Unix seconds) nothing is sent, since everything fails.
        quota_text: the vendor's, when it last called a daily quota spent.
        stop: why no more is sent. Called once the answers on their way are in, so that it counts
            right.
    """

    def __init__(
        self,
        settings: GenerateConfig,
        gate: Gate,
        keys: Sequence[Key],
        journal: Journal,
        ledger: Ledger,
        drop_failing: bool,
    ) -> None:
        self.settings, self.gate, self.drop_failing = settings, gate, drop_failing
        self.keys, self.journal, self.ledger = list(keys), journal, ledger
        self.estimator = Estimator.knowing(settings.image_size, journal.entries)
        self.ready: deque[Task] = deque()
        self.later: list[Later] = []
        self.flying: dict[Future[Outcome], Flight] = {}
        self.answers, self.failures_in_a_row = 0, 0
        self.refusals, self.fruitless = Refusals(), Streak()
        self.last_answer = time.monotonic()
        self.outage_until = 0.0
        self.quota_text = ""
        self.stop: Callable[[], BaseException] | None = None
        self.dice = random.Random()

    @property
    def open(self) -> int:
        """Images that aren't finished."""
        return len(self.ready) + len(self.later) + len(self.flying) + len(self.refusals.pending)

    def backoff(self, times: int) -> float:
        """Seconds to wait after so many failures."""
        raise NotImplementedError

    def settle(self, flight: Flight, outcome: Outcome) -> None:
        """Note a request's outcome, and decide whether its image is asked about again."""
        task, key = flight.task, flight.key
        if isinstance(outcome, ImageError):
            task.dead = f"unreadable: {outcome.reason}"
        elif isinstance(outcome, Entry):
            self.answered(flight, outcome)
            self.estimator.learn(flight.text, outcome.usage.input)
        elif isinstance(outcome, (ThrottledError, DailyQuotaError)):
            self.ready.appendleft(task)
            self.out_of_quota(key, outcome)
        elif isinstance(outcome, InvalidKeyError):
            self.drop_key(key, outcome)
            self.ready.appendleft(task)
        elif isinstance(outcome, UnknownModelError):
            self.stop = lambda: UserError(
                f"generate.model: {self.settings.model!r} doesn't exist or is retired. Set it in "
                f"params.yaml to a current one, e.g. gemini-3.5-flash-lite. ({outcome})"
            )
        elif isinstance(outcome, RequestRefusedError):
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

    def failed(self, task: Task, error: ServiceError) -> None:
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

    def write_failure(self, task: Task, error: ServiceError) -> None:
        """Note that an image failed; `tasks.ROUNDS` such notes, and it is left out for good."""
        entry = Entry(task.path, task.key, problem=f"failed: {error}", time=now())
        self.journal.append(entry)
        task.absorb(entry, self.gate)
        task.tries = 0

    def lose_patience(self, error: ServiceError) -> None:
        if time.monotonic() - self.last_answer > self.settings.patience_s and not self.stop:
            for later in self.later:  # lest an image that always fails keeps us forever
                if later.task.tries >= self.settings.attempts:
                    self.write_failure(later.task, error)
            self.stop = lambda: RetryLaterError(
                f"no answer for {self.settings.patience_s:g} s; last: {error}. "
                f"{self.open:,} images are open and everything is saved: run it again later."
            )

    def out_of_quota(self, key: Key, error: ThrottledError | DailyQuotaError) -> None:
        """Rest a key until its quota is there again: the minute's, or the day's."""
        moment = time.time()
        if isinstance(error, ThrottledError):
            far = (error.delay or 0) > self.settings.patience_s
            if not far and not (error.day and key.throttled >= _STILL_THROTTLED):
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

    def drop_key(self, key: Key, error: InvalidKeyError) -> None:
        if key not in self.keys:  # said already, by another request of the same moment
            return
        self.keys.remove(key)
        if self.keys:
            if not self.stop:
                print(f"key number {key.number} is left out: {error}", flush=True)
            return
        if isinstance(error, NoQuotaError):
            advice = (
                f"Its quota for generate.model {self.settings.model!r} is 0, today and any day: "
                "choose a model of the key's plan, or change the plan."
            )
        elif isinstance(error, AccountError):
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

    def refuse(self, flight: Flight, error: RequestRefusedError) -> None:
        """The vendor won't take it. Whether it's the image shows once others get through."""
        self.refusals.add(flight.task, error, flight.ended)
        if self.refusals.streak.hopeless and not self.drop_failing and not self.stop:
            self.stop = lambda: self.all_refused(str(error))

    def all_refused(self, said: str) -> UserError:
        return UserError(
            f"the last {len(self.refusals.streak.kinds)} requests were all refused: {said}. No "
            "picture is given up for this. Check the settings under generate in params.yaml and "
            f"the account; {self.open:,} images are open and everything is saved: run it again "
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
