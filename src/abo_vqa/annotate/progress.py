"""Progress of a run: a bar on the terminal, and the running cost in MLflow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from abo_vqa.core.progress import BarNote, progress_bar
from abo_vqa.core.summary import Log
from abo_vqa.remote.budget import describe_cost

if TYPE_CHECKING:
    from abo_vqa.core.service_config import ServiceConfig

_LOG_EVERY_S = 10.0  # between points of MLflow's histories


class Progress(Protocol):
    """Is told how far a run is."""

    def __call__(self, open_images: int, cost: float) -> None:
        """Take over what has changed with a reply.

        Args:
            open_images: the number of open images.
            cost: USD spent on the run's journal so far.
        """

    def show_wait(self, reason: str) -> None:
        """Take over what the run waits for.

        Args:
            reason: a phrase, or "" if it doesn't wait.
        """


class ProgressReporter:
    """Shows progress; its instances are `Progress` callbacks."""

    def __init__(
        self,
        images: int,
        log_metrics: Log,
        settings: ServiceConfig | None = None,
        other_cost: float = 0.0,
    ) -> None:
        """Show an empty bar.

        Args:
            images: how many are open.
            log_metrics: takes the cost and the number of finished images.
            settings: the prices; None: nothing is paid for.
            other_cost: USD spent on other journals, e.g. of shards; added to the run's own.
        """
        self._settings, self._other_cost = settings, other_cost
        self._images, self._log_metrics, self._logged = images, log_metrics, time.monotonic()
        self._bar = progress_bar(images, desc="annotating", unit="image")
        self._note = BarNote(self._bar)

    def __call__(self, open_images: int, cost: float) -> None:
        """Update the bar and, every few seconds, MLflow."""
        finished = self._images - open_images
        metrics = {"images_done": float(finished)}
        if self._settings:
            total = cost + self._other_cost
            self._note.update(cost=describe_cost(total, self._settings))
            if self._settings.prices:
                metrics["cost_usd"] = total
        self._bar.update(finished - self._bar.n)
        if time.monotonic() - self._logged > _LOG_EVERY_S:
            self._logged = time.monotonic()
            self._log_metrics(metrics, finished)

    def show_wait(self, reason: str) -> None:
        """Show what the run waits for; see `Progress`."""
        self._note.update(wait=reason)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
