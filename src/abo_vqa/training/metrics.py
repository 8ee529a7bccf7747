"""Metrics of the training steps for the tracking store, averaged over several steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from abo_vqa.core.memory import peak_memory

if TYPE_CHECKING:
    import torch

    from abo_vqa.core.summary import Log

_MAX_POINTS = 1000  # of a curve; a chart in the browser shows a few hundred


class MetricLogger:
    """Logs the mean of each metric over `every` steps, the speed, and the peak of memory.

    Args:
        log: receives the metrics.
        steps: number of steps of the whole training.
        every: steps per point; None for as many as keep a curve under 1,000 points.
        device: device whose memory is logged.
        epochs: how many there are; each ends with a point, so that none spans two.
    """

    def __init__(
        self,
        log: Log,
        steps: int,
        every: int | None,
        device: torch.device,
        epochs: int = 1,
    ) -> None:
        self._log, self._device = log, device
        self._every = every or max(1, -(-steps // max(1, _MAX_POINTS - epochs)))
        self._total_rows, self._total_seconds = 0, 0.0
        self._reset()

    def _reset(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._steps, self._rows, self._seconds = 0, 0, 0.0

    def update(self, step: int, metrics: Mapping[str, float], rows: int, seconds: float) -> None:
        """Add a step; log if it completes a point.

        Args:
            step: the step's number, from 1.
            metrics: the step's metrics.
            rows: number of rows in the step's batch.
            seconds: time the step took.
        """
        for name, value in metrics.items():
            self._sums[name] += value
        self._steps += 1
        self._rows += rows
        self._seconds += seconds
        self._total_rows += rows
        self._total_seconds += seconds
        if step % self._every == 0:
            self.flush(step)

    def flush(self, step: int) -> None:
        """Log the steps since the last point, if there are any."""
        if not self._steps:
            return
        means = {name: total / self._steps for name, total in self._sums.items()}
        speed = self._rows / self._seconds if self._seconds else 0.0
        self._reset()
        memory = peak_memory(self._device)
        self._log({**means, "memory_bytes": memory, "samples_per_second": speed}, step)

    @property
    def rows_per_second(self) -> float:
        """Mean speed over all steps since the (re)start, without validation; 0 without steps."""
        return self._total_rows / self._total_seconds if self._total_seconds else 0.0
