"""Shares with their intervals, as benchmarks print them."""

from __future__ import annotations

from abo_vqa.evaluation.intervals import wilson_interval


def share(successes: int, trials: int) -> str:
    """A share in percent with its 95% interval (Wilson's), e.g. "50.0% (23.7 to 76.3)"."""
    if not trials:
        return "–"
    low, high = wilson_interval(successes, trials)
    return f"{successes / trials:.1%} ({100 * low:.1f} to {100 * high:.1f})"
