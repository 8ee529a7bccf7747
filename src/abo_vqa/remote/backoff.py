"""Pauses between tries: exponential backoff with jitter."""

from __future__ import annotations

import random

FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0  # unless the server asks for more
_RNG = random.Random()


def backoff_seconds(failures: int, rng: random.Random = _RNG) -> float:
    """Return the seconds to wait after this many failures: doubled each time, up to a minute.

    Args:
        failures: failures in a row.
        rng: draws the jitter, between half of the pause and all of it.
    """
    pause = min(_LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 9))
    return float(pause * rng.uniform(0.5, 1.0))
