"""`abo-vqa serve` under load: throughput, latency, batches, shedding, memory, stopping.

    python benchmarks/serving.py                 # the sample's BLIP
    python benchmarks/serving.py --base          # random weights of BLIP-base's shape

A server in a process of its own is asked by clients in this one, over kept connections: each client
sends its next request when it has the answer to the last. Requests differ in image and question.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from helpers.real_size import blip_base
from PIL import Image

ROOT = Path(__file__).parents[1]
QUESTIONS = ("What color is it?", "Is it made of wood?", "What is it?", "Does it have a pattern?")
CAPACITY = 64


def project(root: Path, base: bool) -> Path:
    """A project with the sample's checkpoints, or one of BLIP-base's shape."""
    shutil.copytree(ROOT / "conf", root / "conf")
    shutil.copy(ROOT / "params.yaml", root)
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "models").symlink_to(ROOT / "models")
    if base:
        profile = root / "conf/profiles/sample.yaml"
        settings = yaml.safe_load(profile.read_text())
        settings["models"]["blip"]["path"] = "blip-base"
        profile.write_text(yaml.safe_dump(settings))
        model = blip_base(10)
        model.model.save_pretrained(root / "blip-base")
        model.processor.save_pretrained(root / "blip-base")
    return root


def requests(count: int, size: int) -> list[bytes]:
    """HTTP requests, each about another image."""
    chance = np.random.default_rng(0)
    prepared = []
    for i in range(count):
        blocks = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(blocks).resize((size, size)).save(file, "JPEG")
        image = base64.b64encode(file.getvalue()).decode()
        body = json.dumps({"image": image, "questions": [QUESTIONS[i % len(QUESTIONS)]]}).encode()
        head = (
            "POST /v1/answers HTTP/1.1\r\nHost: benchmark\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        prepared.append(head.encode() + body)
    return prepared


class Server:
    """A running server with its own settings."""

    def __init__(self, root: Path, **settings: Any) -> None:
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["threads"] = 1
        params["serve"] |= {"capacity": CAPACITY, **settings}
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        self.log = root / "serve.log"
        words = [sys.executable, "-m", "abo_vqa", "serve", "--model", "blip", "--port", "0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                words, cwd=root, stdout=log, stderr=log, env=environment
            )
        while not (match := re.search(r":(\d+): ready", self.log.read_text())):
            if self.process.poll() is not None:
                raise SystemExit(self.log.read_text())
            time.sleep(0.1)
        self.port = int(match[1])

    def memory(self) -> float:
        """Megabytes of all its processes."""
        main = psutil.Process(self.process.pid)
        return sum(p.memory_info().rss for p in [main, *main.children(recursive=True)]) / 1e6

    def processor(self) -> float:
        """Processor seconds of all its processes."""
        main = psutil.Process(self.process.pid)
        times = [p.cpu_times() for p in [main, *main.children(recursive=True)]]
        return sum(t.user + t.system for t in times)

    def stop(self) -> tuple[int, str]:
        """Stop it; return the exit code and its last words."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(120)
        return code, self.log.read_text().strip().splitlines()[-1]


@dataclass
class Load:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    batches: tuple[float, float] = (0.0, 0.0)
    wall: float = 0.0
    processor: float = 0.0
    memory: list[float] = field(default_factory=list)

    def line(self) -> str:
        """A table's line."""
        p50, p95, p99 = (1000 * float(np.percentile(self.seconds, q)) for q in (50, 95, 99))
        done, count = self.statuses["200"], max(self.batches[0], 1)
        return (
            f"{done / self.wall:8.1f}/s  p50 {p50:7.1f}  p95 {p95:7.1f}  p99 {p99:7.1f} ms  "
            f"batch {self.batches[1] / count:5.1f}  {1000 * self.processor / max(done, 1):6.1f} ms "
            f"of processor each  {dict(self.statuses)}"
        )


async def client(port: int, prepared: list[bytes], start: int, end: float, load: Load) -> None:
    """One client, until a moment; a refused one tries again five times as soon as it is told to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = start
    while time.perf_counter() < end:
        begun = time.perf_counter()
        try:
            writer.write(prepared[number % len(prepared)])
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = re.search(r"content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
        except (OSError, asyncio.IncompleteReadError):
            load.statuses["closed"] += 1
            break
        status = head.split()[1]
        load.statuses[status] += 1
        if status == "200":
            load.seconds.append(time.perf_counter() - begun)
        else:
            await asyncio.sleep(0.2)
        number += 1
    writer.close()


async def metrics(port: int) -> tuple[float, float]:
    """The number of batches, and of the requests in them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: benchmark\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    values = [re.search(rf"abo_vqa_batch_requests_{n} (\S+)", text) for n in ("count", "sum")]
    return tuple(float(match[1]) for match in values if match)  # type: ignore[return-value]


async def measure(
    server: Server, prepared: list[bytes], clients: int, seconds: float, stop: bool = False
) -> Load:
    """Have some clients ask for a while."""
    load = Load()
    before, spent = await metrics(server.port), server.processor()
    begun = time.perf_counter()
    end = begun + seconds
    asking = [
        asyncio.create_task(client(server.port, prepared, 37 * i, end, load))
        for i in range(clients)
    ]
    while any(not task.done() for task in asking):
        await asyncio.sleep(min(1.0, seconds / 10))
        if stop and time.perf_counter() > begun + seconds / 2:
            server.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*asking)
            return load
        load.memory.append(server.memory())
    load.wall = time.perf_counter() - begun
    after = await metrics(server.port)
    load.batches = after[0] - before[0], after[1] - before[1]
    load.processor = server.processor() - spent
    return load


def run(root: Path, prepared: list[bytes], seconds: float) -> None:
    """Measure all of it."""
    for size in (1, 32):
        server = Server(root, batch_size=size)
        asyncio.run(measure(server, prepared, 4, 3))  # warm
        for clients in (1, 8, 32):
            load = asyncio.run(measure(server, prepared, clients, seconds))
            print(f"batch_size {size:2}, {clients:3} clients: {load.line()}", flush=True)
        print(f"stopped: {server.stop()}")
    server = Server(root, batch_size=32)
    asyncio.run(measure(server, prepared, 32, 5))
    load = asyncio.run(measure(server, prepared, 2 * CAPACITY, 60))
    first, last = np.mean(load.memory[10:20]), np.mean(load.memory[-10:])
    print(f"twice the capacity ({2 * CAPACITY} clients, 60 s): {load.line()}")
    print(f"memory: {first:.0f} MB after 10 s, {last:.0f} MB after 60 s")
    load = asyncio.run(measure(server, prepared, 32, 6, stop=True))
    code = server.process.wait(120)
    words = server.log.read_text().strip().splitlines()[-1]
    print(f"SIGTERM under load: exit code {code}, {words!r}; clients saw {dict(load.statuses)}")


def main() -> None:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", action="store_true", help="random weights of BLIP-base's shape")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(project(Path(folder), args.base), requests(64, 256), args.seconds)


if __name__ == "__main__":
    main()
