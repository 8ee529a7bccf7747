"""The record of a training: every step's loss, every epoch's validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class History:
    """Steps and epochs so far. Without timings, so that the same training has the same history.

    Attributes:
        steps: step, loss (mean per answer token) and lr of each optimizer step.
        epochs: epoch, validation_accuracy and validation_loss of each epoch.
        best_epoch: number of the best epoch; 0 before the first one has ended.
        best_accuracy: its validation accuracy.
        best_loss: its validation loss.
        best_correct: for each validated row, whether it was answered correctly after it.
    """

    steps: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = math.inf
    best_correct: list[bool] = field(default_factory=list)

    def add_epoch(self, accuracy: float, loss: float, correct: Sequence[float] = ()) -> bool:
        """Record an epoch's validation; return whether it is the best so far.

        Higher accuracy wins, then lower loss.
        """
        epoch = len(self.epochs) + 1
        self.epochs.append(
            {"epoch": epoch, "validation_accuracy": accuracy, "validation_loss": loss}
        )
        if (accuracy, -loss) <= (self.best_accuracy, -self.best_loss):
            return False
        self.best_epoch, self.best_accuracy, self.best_loss = epoch, accuracy, loss
        self.best_correct = [bool(value) for value in correct]
        return True
