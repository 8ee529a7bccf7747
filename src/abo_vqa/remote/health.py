"""Whether the service answers at all: an outage is no single request's fault."""

from __future__ import annotations

import time

from abo_vqa.remote.backoff import backoff_seconds

# Failures in a row, over all requests, after which nothing is sent for a while.
_OUTAGE_FAILURES = 10


class ServiceHealth:
    """Counts answers, and failures with no answer between them.

    Attributes:
        answers: replies so far.
        failures_in_a_row: failed requests since the last reply.
        paused_until: Unix seconds before which nothing is sent, since everything fails.
    """

    def __init__(self, patience_s: float) -> None:
        """Start the clock.

        Args:
            patience_s: seconds without any answer after which a run ends.
        """
        self.answers = 0
        self.paused_until = 0.0
        self._patience_s = patience_s
        self.failures_in_a_row = 0
        self._last_answer = time.monotonic()

    @property
    def patience_exhausted(self) -> bool:
        """Whether there has been no answer for too long."""
        return time.monotonic() - self._last_answer > self._patience_s

    def restart_clock(self) -> None:
        """Begin to wait for an answer now: nothing was asked before."""
        self._last_answer = time.monotonic()

    def record_answer(self) -> None:
        """Note a reply."""
        self.answers += 1
        self.failures_in_a_row = 0
        self.paused_until = 0.0
        self._last_answer = time.monotonic()

    def record_failure(self, delay: float | None = None) -> None:
        """Note a failed request; after several in a row everything pauses.

        Args:
            delay: seconds that the server asked to wait, or None.
        """
        self.failures_in_a_row += 1
        if self.failures_in_a_row >= _OUTAGE_FAILURES:
            pause = backoff_seconds(self.failures_in_a_row // _OUTAGE_FAILURES)
            self.paused_until = max(self.paused_until, time.time() + max(pause, delay or 0.0))

    @property
    def starts_outage(self) -> bool:
        """Whether the last failure made it too many for single requests' faults."""
        return self.failures_in_a_row == _OUTAGE_FAILURES
