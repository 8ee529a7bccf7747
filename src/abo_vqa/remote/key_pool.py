"""The usable API keys of a run: which one sends the next request, and which have to pause."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from abo_vqa.remote.backoff import backoff_seconds
from abo_vqa.remote.contract import ModelClient, Usage
from abo_vqa.remote.errors import DailyQuotaError, ThrottledError
from abo_vqa.remote.ledger import Ledger, QuotaDelay, next_day
from abo_vqa.remote.quotas import day_zone, reserved_output, service_quota

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

_MAX_THROTTLES = 3  # pauses after which a quota per day that was named, too, is taken for spent


@dataclass
class ApiKey:
    """One API key in use.

    Attributes:
        number: the key's number in messages, from 1.
        id: its identifier.
        quota_id: the ledger's for its quota, which several keys may share.
        client: the client that sends with it.
        throttles: pauses in a row; requests that were on their way together count once.
        paused_until: Unix seconds.
    """

    number: int
    id: str
    quota_id: str
    client: ModelClient
    throttles: int = 0
    paused_until: float = 0.0


@dataclass(frozen=True)
class Reservation:
    """Permission to send one request.

    Attributes:
        key: the key to send it with.
        call: its number in the ledger.
        output_tokens: tokens of output that the quota counts, however long the reply is.
    """

    key: ApiKey
    call: int
    output_tokens: int = 0

    def quota_tokens(self, usage: Usage) -> int | None:
        """Return what the quota counts once the reply is there, or None if that isn't known.

        Args:
            usage: the reply's tokens.
        """
        return usage.input + self.output_tokens if usage.counted and usage.input else None


class KeyPool:
    """The usable keys.

    Attributes:
        keys: the key whose turn it is comes first.
        quota_message: the vendor's message when it last reported a daily quota as spent, or "".
    """

    def __init__(
        self, keys: Sequence[ApiKey], ledger: Ledger, journal: str, settings: ServiceConfig
    ) -> None:
        """Take over the keys.

        Args:
            keys: all keys of the run.
            ledger: where requests and pauses are recorded.
            journal: the name of the journal that the replies go to.
            settings: the model and its quotas.
        """
        self.keys = list(keys)
        self.quota_message = ""
        self._ledger, self._journal, self._settings = ledger, journal, settings

    def reserve(self, tokens: int, cost: float) -> Reservation | QuotaDelay:
        """Find a key that may send now, and reserve its quota.

        Args:
            tokens: input tokens of the request, about.
            cost: USD that it costs at most.

        Returns:
            the reservation, or the shortest delay; its `day` says that all daily quotas are spent.
        """
        settings = self._settings
        quota, output = service_quota(settings), reserved_output(settings)
        delays = []
        for key in list(self.keys):
            result = self._ledger.reserve(
                key.quota_id, settings.model, quota, tokens + output, cost, self._journal
            )
            if isinstance(result, int):
                self.keys.remove(key)  # the next request goes to the next key
                self.keys.append(key)
                return Reservation(key, result, output)
            delays.append(result)
        shortest = min(delays, key=lambda delay: delay.until)
        return replace(shortest, day=all(delay.day for delay in delays))

    def pause(self, key: ApiKey, error: ThrottledError | DailyQuotaError) -> bool:
        """Pause a key until its quota is available again: the minute's or the day's.

        Returns:
            whether the pause is short; otherwise the key's daily quota is spent.
        """
        now = time.time()
        delay = error.delay or 0.0
        back = next_day(now, day_zone(self._settings))
        if isinstance(error, ThrottledError):
            long = delay > self._settings.patience_s
            if not long and not (error.day and key.throttles >= _MAX_THROTTLES):
                self._throttle(key, delay)
                return True
            back = now + delay if long else back
        self.quota_message = str(error)
        self._ledger.pause(key.quota_id, self._settings.model, back, day=True)
        return False

    def _throttle(self, key: ApiKey, delay: float) -> None:
        """Pause a key for as long as the server asks, or else longer each time."""
        now = time.time()
        if now >= key.paused_until:
            key.throttles += 1
            key.paused_until = now + backoff_seconds(key.throttles)
        if delay:
            key.paused_until = max(key.paused_until, now + delay)
        self._ledger.pause(key.quota_id, self._settings.model, key.paused_until)

    def remove(self, key: ApiKey) -> bool:
        """Remove an unusable key; return False if another request has had it removed before."""
        if key not in self.keys:
            return False
        self.keys.remove(key)
        return True
