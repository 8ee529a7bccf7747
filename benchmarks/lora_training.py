"""LoRA on BLIP-VQA-base against the study's loop, written plainly with the same library.

    python benchmarks/lora_training.py      # CPU, float32; for a GPU: benchmarks/gpu.py

Random weights at the real size, the study's settings (rank 16 on query and value, batch 8). The
study's loop encodes the picture anew for each row, pads answers to 20 tokens and lets the padding
count. Ours is `Trainer`'s own step.
Floor: counted operations over the rate of a large matrix product.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from helpers.lora_steps import EPOCHS, PICTURES, ROWS, LoraSteps
from helpers.real_size import blip_base, operations, peak_rate

STUDY, CACHED = "the study's loop", "cached vision"
TOGETHER, BUILDING = "cached, a picture's rows together", "building the cache (a picture)"


def cpu_steps(batch: int) -> LoraSteps:
    """As many pictures as rows, all of them drawn."""
    return LoraSteps(blip_base(3), batch, batch, torch.float32, torch.float32, drawn=batch)


def cpu(args: argparse.Namespace) -> None:
    """Seconds a row of each way, against counted operations."""
    bench = cpu_steps(args.batch)
    whole = 3 * math.ceil(args.batch / 3)  # three questions a picture
    ways = {  # the step, its rows, how often it is run a round
        STUDY: (bench.study(args.batch), args.batch, 1),
        CACHED: (bench.ours(args.batch, grouped=False), args.batch, 2),
        TOGETHER: (bench.ours(whole), whole, 5),
        BUILDING: (bench.encode(4), 4, 1),
    }
    counted = {name: operations(run) / rows for name, (run, rows, _) in ways.items()}  # warms up
    rate = peak_rate()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, (run, rows, often) in ways.items():
            for _ in range(often):
                began = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - began) / rows)
        rate = max(rate, peak_rate(2))
    cost = {name: median(values) for name, values in times.items()}
    best = {name: min(values) for name, values in times.items()}  # other work only ever adds time
    # A cache serves all epochs: per row trained, its share of building.
    share = PICTURES / (EPOCHS * ROWS)
    total = f"{EPOCHS} epochs, the cache's building counted"
    for kind in (cost, best, counted):
        kind[total] = kind[TOGETHER] + share * kind[BUILDING]
    print(f"batch {args.batch}, {args.threads} threads, {rate / 1e9:.0f} GFLOP/s at best; a row:")
    print(f"{'way':42}{'ms':>8}{'ratio':>8}{'best ms':>9}{'ratio':>8}{'GFLOP':>9}{'ratio':>8}"
          f"{'floor ms':>10}{'of peak':>9}")  # fmt: skip
    for way, seconds in cost.items():
        floor = counted[way] / rate
        print(
            f"{way:42}{seconds * 1e3:8.0f}{cost[STUDY] / seconds:8.2f}{best[way] * 1e3:9.0f}"
            f"{best[STUDY] / best[way]:8.2f}{counted[way] / 1e9:9.1f}"
            f"{counted[STUDY] / counted[way]:8.2f}{floor * 1e3:10.0f}{floor / best[way]:9.0%}"
        )
    print("steps timed: " + ", ".join(f"{len(values)} of {name}" for name, values in times.items()))


def profile(step: Callable[[], Any]) -> None:
    """Where the time of a step goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    with watch(activities=[ProfilerActivity.CPU]) as found:
        step()
    order = "self_cpu_time_total"
    print(found.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=40))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="only a profile of ours")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.profile:
        profile(cpu_steps(args.batch).ours(9))
    else:
        cpu(args)


if __name__ == "__main__":
    main()
