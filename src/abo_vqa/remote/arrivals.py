"""When a server has seen a request, at the latest: what its quotas per minute count from.

The server sees a request somewhere between its being sent and its reply. Counting from the reply
would leave a large part of a quota unused where replies are slow, 14% at 10 s. If a reply took no
longer than replies usually do, the server has seen the request within `TRAVEL_S` of being sent: the
rest of its time was the server's work. What it took beyond that may have been the network's fault,
and counts as the way to the server, and so does all that a run's first replies took.
"""

from __future__ import annotations

from collections import deque

TRAVEL_S = 2.0  # seconds that a request takes to the server at most, where replies come as usual
# "As usual" is as fast as three quarters of so many replies: an outage delays those of the requests
# on their way, which are no more than a quarter of that.
_REPLIES, _USUAL = 400, 0.75


class ArrivalEstimator:
    """Tells when requests have arrived. Times are in Unix seconds. Not thread-safe."""

    def __init__(self) -> None:
        """Start without replies."""
        self._replies: deque[tuple[float, float]] = deque(maxlen=_REPLIES)  # when, after how long
        self._is_cold = True

    def usual_latency(self, before: float) -> float:
        """Return the seconds within which most of the latest replies came; 0 without any.

        Args:
            before: the moment that they came before.
        """
        latencies = sorted(latency for ended, latency in self._replies if ended <= before)
        return latencies[int(_USUAL * len(latencies))] if latencies else 0.0

    def latest_arrival(self, sent: float, now: float) -> float:
        """Return when the server has seen an answered request, at the latest.

        Args:
            sent: when it was sent.
            now: when its reply came, which is the latest so far.
        """
        latency = now - sent
        # What was on its way together may have been delayed together, so earlier replies tell.
        usual = self.usual_latency(sent)
        if self._is_cold:  # the first request sets up the SDK and the connection, maybe for seconds
            self._is_cold = False
        else:
            # An outage must not become what is usual, not even where few replies were before it.
            most = max(2 * usual, TRAVEL_S) if usual else latency
            self._replies.append((now, min(latency, most)))
        return min(now, sent + TRAVEL_S + max(0.0, latency - usual))
