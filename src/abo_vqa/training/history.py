"""What training saw of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class History:
    """What training saw. Deterministic: no timings."""

    steps: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = math.inf

    def better(self, accuracy: float, loss: float) -> bool:
        """Whether an epoch beats the best so far: more right answers, or as many at less loss."""
        return (accuracy, -loss) > (self.best_accuracy, -self.best_loss)
