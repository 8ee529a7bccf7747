"""What the benchmarks of decoder-only models share: their options, and how ways are measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from helpers.real_size import Taken, fastest, operations, peak_rate
from helpers.vlm_shapes import SHAPES


@dataclass(frozen=True)
class Measured:
    """Several ways of doing the same.

    Attributes:
        taken: each way's best times and result.
        counted: each way's operations.
        peak: each way's peak of a GPU's memory in GiB; empty on a CPU.
        rate: operations a second of a large matrix product on a CPU; 0 on a GPU.
    """

    taken: dict[str, Taken]
    counted: dict[str, float]
    peak: dict[str, float]
    rate: float


def measure(ways: dict[str, Callable[[], Any]], device: torch.device, rounds: int) -> Measured:
    """Count the operations of each way, then time them in turns."""
    counted = {way: operations(run) for way, run in ways.items()}
    peak = {}
    if device.type == "cuda":
        for way, run in ways.items():
            torch.cuda.reset_peak_memory_stats()
            run()
            peak[way] = torch.cuda.max_memory_allocated() / 2**30
    taken = fastest(ways, rounds)
    return Measured(taken, counted, peak, peak_rate(2) if device.type == "cpu" else 0.0)


def run_for_models(
    doc: str, images: int, rounds: int, report: Callable[[str, argparse.Namespace], None]
) -> None:
    """Read the options, with these defaults, and report on each model."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--models", default=",".join(SHAPES), help="some of " + ", ".join(SHAPES))
    parser.add_argument("--layers", type=int, default=2, help="of the language model; 0: all")
    parser.add_argument("--images", type=int, default=images, help="three questions each")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.models.split(","):
        report(name, args)
