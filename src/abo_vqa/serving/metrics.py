"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from abo_vqa.serving.tally import RequestTally
from abo_vqa.serving.worker import WorkerReply

METRICS_TYPE = CONTENT_TYPE_LATEST
"""The content type of the metrics."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServerMetrics:
    """The counters of one server.

    Args:
        in_flight: returns how many requests are in the server.
        capacity: how many there may be.
        tallied: the path whose responses are tallied.

    Attributes:
        tally: how the requests to that path ended.
    """

    def __init__(self, in_flight: Callable[[], float], capacity: int, tallied: str) -> None:
        self.tally, self._tallied = RequestTally(), tallied
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = self._counter("requests", "responses by path and status", "path", "status")
        self._errors = self._counter("errors", "responses that are problems, by kind", "kind")
        self._shed = self._counter("shed", "requests refused at capacity")
        self._questions = self._counter("questions", "questions, by result", "result")
        self._reloads = self._counter("reloads", "changes of the model, by result", "result")
        self._latency = self._histogram("request_seconds", "time to a response", _SECONDS, "path")
        self._waited = self._histogram("queue_seconds", "time until a batch started", _SECONDS)
        self._batch = self._histogram("batch_requests", "requests answered together", _SIZES)
        self._model = self._histogram("batch_seconds", "time to answer a batch", _SECONDS)
        gauge = Gauge("abo_vqa_in_flight", "requests in the server", registry=self._registry)
        gauge.set_function(in_flight)
        Gauge("abo_vqa_capacity", "requests there may be", registry=self._registry).set(capacity)
        self._info = Info("abo_vqa_model", "the model that is served", registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"abo_vqa_{name}", text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"abo_vqa_{name}", text, labels, registry=self._registry, buckets=buckets)

    def observe_response(self, path: str, status: int, kind: str, seconds: float) -> None:
        """Count a response; see `guard.Observe`."""
        self._requests.labels(path, str(status)).inc()
        if path == self._tallied:
            self.tally.count(status, kind)
        self._latency.labels(path).observe(seconds)
        if kind:
            self._errors.labels(kind).inc()
        if kind == "overloaded":
            self._shed.inc()

    def observe_reply(self, reply: WorkerReply) -> None:
        """Count a model's reply.

        Args:
            reply: the reply.
        """
        self._waited.observe(max(reply.waited, 0))
        if reply.batch:
            self._batch.observe(reply.batch)
            self._model.observe(reply.seconds)
        for _, _, error in reply.answers:
            self._questions.labels("error" if error else "answered").inc()

    def set_model(self, name: str, version: str) -> None:
        """Name the model that is served."""
        self._info.info({"name": name, "version": version})

    def count_reload(self, result: str) -> None:
        """Count a change of the model: "changed", "unchanged" or "failed"."""
        self._reloads.labels(result).inc()

    def text(self) -> bytes:
        """Return all of it in Prometheus' format."""
        return bytes(generate_latest(self._registry))
