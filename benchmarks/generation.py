"""Generation against a server that speaks a vendor's protocol: quota kept, quota held, overhead.

    python benchmarks/generation.py            # all four, about 11 minutes, mostly waiting
    python benchmarks/generation.py --protocol openai --only cpu
    python benchmarks/generation.py --only slow --latency 10
    python benchmarks/generation.py --only tokens --latency 5

The server is a process of its own; its log of when requests arrived gives the rates. Processor time
is that of our process alone; the SDK's share is measured by the same calls made with nothing but
the SDK, in turns with ours.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from helpers.services import CLIENTS, MODELS, PLENTY, call_sdk, server

from abo_vqa.annotate.inputs import make_quality_filter, read_products
from abo_vqa.annotate.model_run import annotate
from abo_vqa.annotate.prompt import instruction
from abo_vqa.annotate.tasks import make_tasks
from abo_vqa.core.summary import no_log
from abo_vqa.data.archive import open_archive

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.annotation import KEY, configure, products, write_balanced  # noqa: E402
from tests.support.archives import jpeg, listing, write_shop  # noqa: E402

SIDE, DISTINCT = 256, 64  # pixels of ABO's small pictures; how many different ones are made
LATENCY = 0.8  # seconds, unless --latency is given


@contextmanager
def project(images: int) -> Iterator[Path]:
    """A workspace with so many products, entered."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = products(images)
        jpegs = [jpeg(i, side=SIDE) for i in range(DISTINCT)]
        pictures = {row["image_path"]: jpegs[i % DISTINCT] for i, row in enumerate(rows)}
        paths = {row["image_id"]: row["image_path"] for row in rows}
        write_shop(folder / "data/raw/sample", [listing("image0")], paths, pictures)
        write_balanced(folder, rows)
        (folder / "conf").symlink_to(ROOT / "conf")
        (folder / "dvc.yaml").touch()
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def ask(folder: Path, protocol: str, **settings: Any) -> tuple[float, float]:
    """Annotate all products; return seconds and processor seconds."""
    from abo_vqa.annotate.inputs import make_quality_filter, read_products

    config = configure(folder, annotator=protocol, model=MODELS[protocol], **settings)
    rows, quality_filter = read_products(), make_quality_filter(config)
    wall, cpu = time.perf_counter(), time.process_time()
    work = annotate(config, rows, quality_filter, no_log)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    assert all(task.is_complete for task in work.tasks)
    return spent


def arrivals(log: Path) -> list[float]:
    return sorted(json.loads(line)[0] for line in log.read_text().splitlines())


def most_in_a_minute(times: list[float]) -> int:
    """The largest number of requests in any 60 s."""
    most = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def rate(protocol: str, quota: int, windows: int, latency: float, tokens: int = 0) -> None:
    """How much of a quota is used, and whether it is ever exceeded.

    A run begins with an empty window and without knowing the latency, so the first minute's quota
    doesn't count, but the time from the first request after it to the first one after `windows`
    times the quota.

    Args:
        protocol: how the server is spoken to.
        quota: requests per minute.
        windows: how many minutes' quotas are sent.
        latency: seconds until the server answers.
        tokens: what the quota counts for a request, where it is one of tokens; 0: of requests.
    """
    limits = {"requests_per_minute": quota, "tokens_per_minute": 10**9}
    if tokens:
        limits = {"requests_per_minute": 10**6, "tokens_per_minute": quota * tokens}
    with project(quota * windows + 1) as folder:
        log = folder / "requests.jsonl"
        with server(protocol, latency, log) as url:
            wall, cpu = ask(folder, protocol, base_url=url, timeout_s=60, **limits)
        times = arrivals(log)
    assert len(times) == quota * windows + 1
    seconds = times[-1] - times[quota]
    kept = 60 * (windows - 1) / seconds
    unit = f"requests of {tokens:,} tokens" if tokens else "requests"
    print(
        f"{protocol}, quota {quota:,} {unit} a minute, {latency:g} s: {kept:.1%} of it over "
        f"{seconds:.1f} s; at most {most_in_a_minute(times):,} in any 60 s; "
        f"{wall:.0f} s, {cpu:.1f} CPU s"
    )


def quota_tokens(protocol: str) -> int:
    """The tokens that the quota counts for the largest request of the run."""
    with project(2) as folder, server(protocol, 0.0) as url:
        ask(folder, protocol, base_url=url)
        (ledger,) = folder.glob(".cache/**/calls.sqlite")
        with closing(sqlite3.connect(ledger)) as calls:
            return int(calls.execute("SELECT MAX(tokens) FROM calls").fetchone()[0])


def bare(folder: Path, protocol: str, url: str, workers: int) -> float:
    """Return the processor seconds of the same calls by the SDK alone, in as many threads."""
    config = configure(folder, annotator=protocol, model=MODELS[protocol], base_url=url)
    settings = config.generate
    system = instruction(settings.prompt, settings.questions, settings.allow_brands)
    tasks = make_tasks(read_products(), [], make_quality_filter(config), config)
    with open_archive(config.data.raw) as archive:
        requests = [task.request(system, archive.read(task.image_path)) for task in tasks]
    client = CLIENTS[protocol](KEY, settings)

    begun = time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(partial(call_sdk, client), requests))
    spent = time.process_time() - begun
    client.close()
    return spent


def overhead(protocol: str, images: int, repeat: int, workers: int) -> None:
    """Processor time an image beyond the SDK's own."""
    ours, theirs = [], []
    with server(protocol, LATENCY) as url:
        for _ in range(repeat + 1):  # the first round warms up: imports, connections
            with project(images) as folder:
                theirs.append(bare(folder, protocol, url, workers))
                settings = {"base_url": url, "concurrency": workers, **PLENTY}
                ours.append(ask(folder, protocol, **settings)[1])
    ours, theirs = [[1000 * t / images for t in part[1:]] for part in (ours, theirs)]
    extra = [a - b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"CPU an image: {statistics.median(ours):.1f} ms, the SDK alone "
        f"{statistics.median(theirs):.1f} ms; beyond it {statistics.median(extra):.1f} ms "
        f"({min(extra):.1f} to {max(extra):.1f}, {repeat} rounds of {images} images)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("fast", "slow", "tokens", "cpu"), help="one of the four")
    parser.add_argument("--latency", type=float, default=LATENCY, help="seconds, of the rates")
    parser.add_argument("--protocol", choices=tuple(CLIENTS), default="gemini")
    parser.add_argument("--images", type=int, default=300, help="a round of cpu (%(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="rounds of cpu (%(default)s)")
    parser.add_argument("--workers", type=int, default=32, help="of cpu (%(default)s)")
    args = parser.parse_args()
    os.environ["GEMINI_API_KEY"] = os.environ["OPENAI_API_KEY"] = KEY
    if args.only in (None, "cpu"):
        overhead(args.protocol, args.images, args.repeat, args.workers)
    if args.only in (None, "fast"):
        rate(args.protocol, quota=1000, windows=3, latency=args.latency)
    if args.only in (None, "slow"):
        rate(args.protocol, quota=15, windows=3, latency=args.latency)
    if args.only in (None, "tokens"):
        tokens = quota_tokens(args.protocol)
        rate(args.protocol, quota=100, windows=3, latency=args.latency, tokens=tokens)


if __name__ == "__main__":
    main()
