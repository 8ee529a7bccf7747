"""Processor time to record a full training's curves, and to read them as the browser does.

python benchmarks/metric_volume.py --steps 13640

Compares a point per step (`tracking.log_every: 1`, written without thinning) with the default. The
store is SQLite behind a real `mlflow server`, which is asked for the histories of five metrics in
the way the browser asks for a chart (get-history-bulk-interval) and for whole histories
(get-history-bulk).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import psutil
import torch

NAMES = ("loss", "lr", "gradient_norm", "memory_bytes", "samples_per_second")


def processor_seconds() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system


def record(steps: int, *, plain: bool) -> tuple[str, int, float]:
    """Record a training; return the run's id, the number of points and the processor seconds."""
    from abo_vqa.core.config import load_config
    from abo_vqa.core.tracking import naming
    from abo_vqa.core.tracking.backend import connect
    from abo_vqa.core.tracking.runs import track
    from abo_vqa.training.metrics import MetricLogger

    if plain:
        naming.MetricDownsampler.keeps = lambda self, name: True  # type: ignore[method-assign]
    config = load_config()
    begun = processor_seconds()
    with track("finetune", config) as tracker:
        every = 1 if plain else None
        metrics = MetricLogger(tracker.log, steps, every, torch.device("cpu"), epochs=3)
        for step in range(1, steps + 1):
            values = {"loss": 1.0 / step, "lr": 1e-3, "gradient_norm": 1.0}
            metrics.update(step, values, rows=8, seconds=2.0)
        metrics.flush(steps)
    spent = processor_seconds() - begun
    client = connect()
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    runs = client.search_runs([experiment.experiment_id], "tags.`dvc.stage` = 'finetune'")
    run = runs[0].info.run_id
    return run, sum(len(client.get_metric_history(run, name)) for name in NAMES), spent


def server(database: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start MLflow's server and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{database}"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(240):
        try:
            urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return process, f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/metrics"
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("the server doesn't answer")


def read(process: subprocess.Popen[bytes], base: str, path: str, run: str) -> tuple[float, int]:
    """Ask for five histories; return the server's processor seconds and the bytes sent."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]

    def spent() -> float:
        return sum(sum(part.cpu_times()[:2]) for part in tree)

    begun, size = spent(), 0
    for name in NAMES:
        key = "run_ids" if "interval" in path else "run_id"
        query = {key: run, "metric_key": name, "max_results": 25_000 if key == "run_id" else 320}
        with urlopen(f"{base}/{path}?{urlencode(query)}", timeout=60) as reply:
            body = reply.read()
        json.loads(body)
        size += len(body)
    return spent() - begun, size


def compare(steps: int, *, plain: bool) -> None:
    """Print what one way costs."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # where MLflow notes the last store
        run, points, write = record(steps, plain=plain)
        size = (Path(folder) / "mlflow.db").stat().st_size
        process, base = server(Path(folder) / "mlflow.db")
        try:
            read(process, base, "get-history-bulk", run)  # the first request loads modules
            bulk, sent = read(process, base, "get-history-bulk", run)
            chart, _ = read(process, base, "get-history-bulk-interval", run)
        finally:
            process.terminate()
            process.wait()
    name = "a point per step" if plain else "the default"
    print(
        f"{name}: {points:,} points, written in {write:.2f} s, database {size / 1e6:.1f} MB; "
        f"read: get-history-bulk {bulk:.2f} s and {sent / 1e6:.2f} MB, chart {chart:.2f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=13_640)
    number = parser.parse_args().steps
    compare(number, plain=False)
    compare(number, plain=True)
