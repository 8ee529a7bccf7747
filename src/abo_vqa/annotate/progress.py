"""Progress of a run: a bar on the terminal, and the running cost in MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable

from abo_vqa.core.progress import progress_bar
from abo_vqa.core.summary import Log

_LOG_EVERY_S = 10.0  # between points of MLflow's histories

Progress = Callable[[int, float], None]
"""Called after each reply: the number of open images, the USD spent on the run's journal so far."""


class ProgressReporter:
    """Shows progress; its instances are `Progress` callbacks."""

    def __init__(self, images: int, log_metrics: Log, other_cost: float | None) -> None:
        """Show an empty bar.

        Args:
            images: how many are open.
            log_metrics: takes the cost and the number of finished images.
            other_cost: USD spent on other journals, e.g. of shards; added to the run's own. None:
                nothing is paid for.
        """
        self._other_cost = other_cost
        self._images, self._log_metrics, self._logged = images, log_metrics, time.monotonic()
        self._bar = progress_bar(images, desc="annotating", unit="image")

    def __call__(self, open_images: int, cost: float) -> None:
        """Update the bar and, every few seconds, MLflow."""
        finished = self._images - open_images
        metrics = {"images_done": float(finished)}
        if self._other_cost is not None:
            metrics["cost_usd"] = cost + self._other_cost
            self._bar.set_postfix_str(f"{metrics['cost_usd']:.4f} USD", refresh=False)
        self._bar.update(finished - self._bar.n)
        if time.monotonic() - self._logged > _LOG_EVERY_S:
            self._logged = time.monotonic()
            self._log_metrics(metrics, finished)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
