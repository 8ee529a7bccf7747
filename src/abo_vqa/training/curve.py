"""Training's curves in the tracking store: means over some steps, as many points as one can see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abo_vqa.core.memory import peak_memory

if TYPE_CHECKING:
    from abo_vqa.core.summary import Log

_POINTS = 1000  # of a curve; a chart in the browser shows a few hundred


class Curve:
    """Steps in, every `every`-th step a point out: the mean of the steps since the last point.

    Args:
        steps: how many there are in all.
        every: None: so that there are at most `_POINTS` points.
        device: whose memory is told.
    """

    def __init__(self, log: Log, steps: int, every: int | None, device: Any) -> None:
        self.log, self.device = log, device
        self.every = every or -(-steps // _POINTS)
        self.clear()

    def clear(self) -> None:
        self.sums = {"loss": 0.0, "lr": 0.0, "gradient_norm": 0.0}
        self.steps, self.rows, self.seconds = 0, 0, 0.0

    def add(
        self, step: int, loss: float, lr: float, norm: float, rows: int, seconds: float
    ) -> None:
        """Count a step of so many rows, which took so long."""
        for name, value in zip(self.sums, (loss, lr, norm), strict=True):
            self.sums[name] += value
        self.steps += 1
        self.rows += rows
        self.seconds += seconds
        if step % self.every == 0:
            self.point(step)

    def point(self, step: int) -> None:
        """Log what was counted since the last point, if anything."""
        if not self.steps:
            return
        means = {name: total / self.steps for name, total in self.sums.items()}
        speed = self.rows / self.seconds if self.seconds else 0.0
        self.clear()
        self.log(
            {**means, "memory_bytes": peak_memory(self.device), "samples_per_second": speed}, step
        )
