"""Failures in a row: when image after image fails alike, the images aren't the cause.

An image that the vendor refuses, or that gets no pairs, is left out. When the account is refused or
a setting is wrong, that would leave out the rest of the set. So failures without a success between
them are counted, and those that belong to such a streak are held against no image.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

MIN_STREAK = 5  # images in a row that fail alike before a run stops
_MIN_SAMPLE = 50  # images before the share of single failures is trusted
_MAX_SHARE = 0.9  # share of single failures that is trusted at most
_CHANCE = 1e-6  # how probable a streak by chance may be

_VARIABLE = re.compile(r"\S*[\d/\\]\S*")


@dataclass
class FailureStreak:
    """Counts failures of different images without a success between them.

    Attributes:
        successes: so far.
        single_failures: earlier failures that a later success ended; those were the images' own.
        kinds: how each image of the present streak failed, in order.
        is_proven: whether this run has had a success; earlier runs' don't count.
    """

    successes: int = 0
    single_failures: int = 0
    kinds: dict[str, str] = field(default_factory=dict)
    is_proven: bool = False

    def record_success(self) -> None:
        """End the present streak. If it was systematic, its failures weren't the images' own."""
        if not self.is_systematic:
            self.single_failures += len(self.kinds)
        self.successes += 1
        self.is_proven = True
        self.kinds.clear()

    def acquit(self) -> None:
        """End the present streak without a success: its failures are the images' own after all."""
        self.single_failures += len(self.kinds)
        self.kinds.clear()

    def resumed(self) -> FailureStreak:
        """Return the streak as the next run goes on with it: nothing is proven yet."""
        return replace(self, kinds=dict(self.kinds), is_proven=False)

    def record_failure(self, image_path: str, kind: str) -> None:
        """Add an image to the streak, or move it to the end.

        Args:
            image_path: the image.
            kind: how it failed.
        """
        self.kinds.pop(image_path, None)
        self.kinds[image_path] = kind

    @property
    def _alike(self) -> int:
        """The number of images at the end of the streak that failed in the same way."""
        kinds = list(self.kinds.values())[::-1]
        return next((i for i, kind in enumerate(kinds) if kind != kinds[0]), len(kinds))

    @property
    def _threshold(self) -> int:
        """Failures in a row that can't be chance; more where single failures are frequent."""
        total = self.successes + self.single_failures
        if not self.single_failures or total < _MIN_SAMPLE:
            return MIN_STREAK
        share = min(_MAX_SHARE, self.single_failures / total)
        return max(MIN_STREAK, math.ceil(math.log(_CHANCE) / math.log(share)))

    @property
    def is_systematic(self) -> bool:
        """Whether it isn't the images: enough failed alike, or twice as many in any way."""
        return self._alike >= self._threshold or len(self.kinds) >= 2 * self._threshold

    def max_pending(self, concurrency: int) -> int:
        """Return how many requests may be on their way.

        Few until one of them was a success, so that not many are paid for in vain: one at a time
        if the run before ended in a systematic failure.

        Args:
            concurrency: how many may be afterwards.
        """
        if self.is_proven:
            return concurrency
        return min(concurrency, max(1, MIN_STREAK - len(self.kinds)))


def error_kind(message: str) -> str:
    """Return a message without what differs between requests: numbers, names, paths."""
    head, colon, rest = message.partition(":")
    return f"{head}{colon}{_VARIABLE.sub('#', rest)}".lower()
