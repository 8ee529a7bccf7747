"""The learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abo_vqa.config import FinetuneConfig


def factor(settings: FinetuneConfig, steps: int) -> Callable[[int], float]:
    """Learning rate's factor by step: warm-up, then linear, cosine or constant."""
    warm = int(settings.warmup * steps)

    def at(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        left = 1 - (step - warm) / max(1, steps - warm)
        if settings.schedule == "constant":
            return 1.0
        return left if settings.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))

    return at
