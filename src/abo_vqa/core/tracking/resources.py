"""Use of processor, memory, disk, network and GPU while a stage runs: MLflow's system metrics.

MLflow's own collectors take the samples; they go through the outbox like every other record,
whereas MLflow's monitor would ask the store at each of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mlflow.environment_variables import (
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING,
    MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL,
)
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from abo_vqa.core.tracking.naming import MetricDownsampler

_INTERVAL_S = 10.0  # MLflow's default; a stage that ends before has no samples
_PREFIX = "system/"  # by which the browser knows them

Points = list[tuple[str, float, int, int]]


class ResourceMonitor:
    """A thread that takes a sample every few seconds; it neither delays nor outlives the work.

    Args:
        put: receives the points: name, value, milliseconds since 1970, step.
    """

    def __init__(self, put: Callable[[Points], None]) -> None:
        self._put = put
        self._stopped = threading.Event()
        self._thinner = MetricDownsampler()
        self._interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or _INTERVAL_S
        self._thread = threading.Thread(target=self._work, name="resources", daemon=True)

    def start(self) -> None:
        """Start, unless MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is false."""
        switch = MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
        if switch.get() or not switch.is_set():
            self._thread.start()

    def stop(self) -> None:
        """Stop taking samples; one that is being taken needs a moment."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=1)

    def _work(self) -> None:
        """Take samples until stopped."""
        if self._stopped.wait(self._interval):
            return
        monitors, step = _collectors(), 0
        while True:
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            now = int(time.time() * 1000)
            points = [
                (f"{_PREFIX}{name}", float(value), now, step)
                for name, value in values.items()
                if self._thinner.keeps(name)
            ]
            if self._stopped.is_set():
                return
            self._put(points)
            step += 1
            if self._stopped.wait(self._interval):
                return


def _collectors() -> list[BaseMetricsMonitor]:
    """Return MLflow's collectors for what this machine has."""
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except Exception:  # no NVIDIA GPU, or no pynvml
        return monitors
    return monitors
