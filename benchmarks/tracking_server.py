"""What tracking costs: seconds until `abo-vqa ui` answers, and what a server that is away adds.

python benchmarks/tracking_server.py
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil

from tests.support.servers.tracking import DIRECT, TrackingServer, free_port

STAGE = """
import sys, time
from pathlib import Path
from abo_vqa.core.config import load_config
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking.runs import track
config = load_config()
begun = time.monotonic()
with track("finetune", config) as tracker:
    opened = time.monotonic()
    print("opened", flush=True)
    sys.stdin.readline()
    for step in range(1000):
        tracker.log({"loss": 1 / (step + 1)}, step)
    done = time.monotonic()
    tracker.finish(Summary("done", metrics={"rows": 3}, artifacts=(Path("params.yaml"),)))
print(f"{done - opened:.2f} {time.monotonic() - done:.2f}", flush=True)
"""


def tree_seconds(pid: int) -> float:
    """Processor seconds of a process and all below it."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def until_ready(words: list[str], port: int, environment: dict[str, str]) -> tuple[float, float]:
    """Start a server, and return the seconds and processor seconds until it answers."""
    begun = time.monotonic()
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        words, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        while True:
            try:
                DIRECT.open(f"http://127.0.0.1:{port}/health", timeout=5).close()
                return time.monotonic() - begun, tree_seconds(server.pid)
            except OSError:
                time.sleep(0.05)
    finally:
        children = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(60)
        for child in children:
            if child.is_running():
                child.kill()


def browser(rounds: int) -> None:
    """Print how long `abo-vqa ui` takes, beside MLflow's own command."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory() as folder:
        environment["DVC_ROOT"] = folder
        subprocess.run(["abo-vqa", "tracking"], env=environment, check=True, capture_output=True)
        for _ in range(rounds):
            port = free_port()
            ours = ["abo-vqa", "ui", "--port", str(port)]
            seconds, processor = until_ready(ours, port, environment)
            port = free_port()
            plain = [sys.executable, "-m", "mlflow", "ui", "--port", str(port)]
            plain += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
            plain_seconds, plain_processor = until_ready(plain, port, environment)
            print(
                f"abo-vqa ui: ready in {seconds:.1f} s, {processor:.1f} processor seconds; "
                f"mlflow ui: {plain_seconds:.1f} s, {plain_processor:.1f}; "
                f"ratio {plain_seconds / seconds:.1f} and {plain_processor / processor:.1f}"
            )


def stage(name: str, root: Path, url: str, meanwhile: Callable[[], object]) -> None:
    """Print how long a stage's end takes if something happens to the server during its work."""
    environment = {**os.environ, "DVC_ROOT": str(root), "MLFLOW_TRACKING_URI": url}
    environment["DVC_EXP_NAME"] = "benchmark"
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "opened\n"
    meanwhile()
    process.stdin.write("\n")
    process.stdin.flush()
    work, end = map(float, process.stdout.readline().split())
    assert process.wait() == 0
    print(f"{name:44} 1,000 points logged in {work:.2f} s, the end took {end:.1f} s")


def server_away() -> None:
    """Print what a stage waits for a server that lives, dies, hangs, or was dead before."""
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        database = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{root}/server.db"}
        database["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        with TrackingServer(root, database) as server:
            stage("a living server:", root, server.url, lambda: None)
            stage("hangs from the beginning of the work on:", root, server.url,
                  lambda: server.signal(signal.SIGSTOP))  # fmt: skip
            server.signal(signal.SIGCONT)
            stage("killed at the beginning of the work:", root, server.url, server.kill)
            stage("dead before the stage begins:", root, server.url, lambda: None)
            with socket.create_server(("127.0.0.1", server.port)):
                stage("accepts and never answers, from before:", root, server.url, lambda: None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    server_away()
    browser(arguments.rounds)
