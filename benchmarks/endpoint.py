"""A model behind an API as a baseline: its processor time a row beside the SDK's own.

    python benchmarks/endpoint.py                     # half a minute
    python benchmarks/endpoint.py --protocol openai
    python benchmarks/endpoint.py --faults 0.02      # a minute: how much faults slow it down

Ours is everything: reading and decoding images from a folder, encoding them as JPEG, quota ledger,
budget, both journals (replies, answers). The plain way makes the same calls by the SDK alone, with
images encoded before, in as many threads. They are measured in turns; the server is a process of
its own, so its time isn't in either.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
from helpers.services import CLIENTS, PLENTY, call_sdk, server
from PIL import Image

from abo_vqa.core.config import load_config
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.registry import load_model
from abo_vqa.models.sources import ImageFiles
from abo_vqa.remote.contract import Request

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.annotation import KEY, write_params  # noqa: E402
from tests.support.archives import jpeg  # noqa: E402
from tests.support.endpoints import add_endpoint  # noqa: E402

SIDE, DISTINCT = 256, 64  # pixels of ABO's small images; how many different ones
LATENCY = 0.8  # seconds
FAULTY_LATENCY, FAULTY_WORKERS, FAULTY_ROWS = 0.2, 16, 640  # a fast service, which waits show most


@contextmanager
def workspace(url: str, protocol: str, workers: int) -> Iterator[Path]:
    """A project with the model `hosted` and a folder of images, entered."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conf/profiles").mkdir(parents=True)
        for file in (ROOT / "conf").rglob("*"):
            if file.is_file():
                link = folder / file.relative_to(ROOT)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file)
        (folder / "dvc.yaml").touch()
        write_params(folder)
        os.chdir(folder)
        try:
            add_endpoint(url, protocol, concurrency=workers, timeout_s=60, **PLENTY)
            yield folder
        finally:
            os.chdir(before)


def questions(folder: Path, rows: int) -> pd.DataFrame:
    """Rows with an image each, which is written."""
    images = [jpeg(i, side=SIDE) for i in range(DISTINCT)]
    for i in range(rows):
        (folder / f"{i}.jpg").write_bytes(images[i % DISTINCT])
    table = {
        "row_id": range(rows),
        "image_path": [f"{i}.jpg" for i in range(rows)],
        "question": [f"what color is product {i}?" for i in range(rows)],
    }
    return pd.DataFrame(table)


def ours(folder: Path, table: pd.DataFrame, batch: int | None = None) -> float:
    """Processor seconds for all rows, in batches of so many or of the default size."""
    config = load_config()
    begun = time.process_time()
    model = load_model("hosted", config)
    source = ImageFiles(lambda path: Image.open(folder / path).convert("RGB"))
    answers, size = folder / "answers", batch or config.models.hosted.batch_size
    answers.mkdir()
    predictions = predict_rows(model, table, source, answers, size, "hosted")
    spent = time.process_time() - begun
    assert (predictions["error"] == "").all()
    return spent


def bare(folder: Path, table: pd.DataFrame, protocol: str, workers: int) -> float:
    """Processor seconds of the same calls by the SDK alone."""
    config = load_config()
    settings, model = config.models.hosted.endpoint, load_model("hosted", config)
    images = model.preprocess([Image.open(folder / p).convert("RGB") for p in table["image_path"]])
    prompt = config.models.hosted.prompt
    requests = [
        Request("", prompt.replace("{question}", question), image.jpeg)
        for question, image in zip(table["question"], images, strict=True)
    ]
    begun = time.process_time()
    client = CLIENTS[protocol](KEY, settings)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(partial(call_sdk, client), requests))
    spent = time.process_time() - begun
    client.close()
    return spent


def wall_time(protocol: str, faults: float, batch: int | None) -> float:
    """Seconds for all rows at a service of which a share of requests fails at first."""
    with (
        server(protocol, FAULTY_LATENCY, faults=faults) as url,
        workspace(url, protocol, FAULTY_WORKERS) as folder,
    ):
        table = questions(folder, FAULTY_ROWS)
        begun = time.perf_counter()
        ours(folder, table, batch)
        return time.perf_counter() - begun


def compare_faults(protocol: str, faults: float) -> None:
    """Print how long all rows take with and without faults, in small batches and in the default."""
    least = FAULTY_ROWS * FAULTY_LATENCY / FAULTY_WORKERS
    for name, batch in (("batches of 64", 64), ("the default batches", None)):
        clean, faulty = (wall_time(protocol, share, batch) for share in (0.0, faults))
        print(
            f"{name}: {faulty:.1f} s with {faults:.0%} faults, {clean:.1f} s without: "
            f"{clean / faulty:.0%} of the speed (at this latency at least {least:.1f} s)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", choices=tuple(CLIENTS), default="gemini")
    parser.add_argument("--rows", type=int, default=320, help="a round (%(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument("--workers", type=int, default=32, help="at once (%(default)s)")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that fail")
    args = parser.parse_args()
    os.environ["GEMINI_API_KEY"] = os.environ["OPENAI_API_KEY"] = KEY
    if args.faults:
        compare_faults(args.protocol, args.faults)
        return
    totals, theirs = [], []
    with server(args.protocol, LATENCY) as url:
        for round_ in range(args.repeat + 1):  # the first round warms up: imports, connections
            with workspace(url, args.protocol, args.workers) as folder:
                table = questions(folder, args.rows)
                plain = bare(folder, table, args.protocol, args.workers)
                total = ours(folder, table)
                if round_:
                    theirs.append(1000 * plain / args.rows)
                    totals.append(1000 * total / args.rows)
    extra = [a - b for a, b in zip(totals, theirs, strict=True)]
    print(
        f"CPU a row: {statistics.median(totals):.1f} ms, the SDK alone "
        f"{statistics.median(theirs):.1f} ms; beyond it {statistics.median(extra):.1f} ms "
        f"({min(extra):.1f} to {max(extra):.1f}, {args.repeat} rounds of {args.rows} rows)"
    )


if __name__ == "__main__":
    main()
