"""What `benchmarks/gpu.py` measures of training: its gradients, and its speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from helpers.card import fits, largest
from helpers.families import FAMILIES
from helpers.gpu_parts import DTYPES, ENCODING, PREPARED, STUDY, Bench, short
from helpers.lora_steps import EPOCHS, PICTURES, ROWS, LoraSteps

from abo_vqa.core.memory import release_memory

WANTED = 10  # times the study's loop, at about its batch of 8


def training_part(bench: Bench, save: Callable[[dict[str, Any]], None]) -> None:
    """Gradients against the library's in three dtypes, then steps against the study's loop."""
    gradients(bench, save)
    release_memory()
    training_speed(bench, save)


def gradients(bench: Bench, save: Callable[[dict[str, Any]], None]) -> None:
    """The largest difference of a gradient, relative to the largest gradient."""
    found: list[dict[str, Any]] = []
    exact: dict[str, torch.Tensor] = {}
    rows = range(9)
    for dtype in DTYPES:
        kept = torch.float32 if dtype == torch.float32 else torch.float16
        blip = bench.make(FAMILIES["blip"], torch.float32)
        steps = LoraSteps(blip, 3, 9, dtype, kept, dropout=0.0)
        steps.stir()
        loss, library = steps.library(rows)
        own, ours = steps.together(rows)
        exact = exact or library
        found.append(
            {
                "dtype": short(dtype),
                "rows": len(rows),
                "library_loss": loss,
                "our_loss": own,
                "gradient_difference": farthest(ours, library),
                "library_from_float32": farthest(library, exact),
                "ours_from_float32": farthest(ours, exact),
            }
        )
        save({"gradients": found})
        del blip, steps
        release_memory()


def farthest(values: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> float | None:
    """The largest difference over the largest value; None if a gradient is infinite or missing."""
    if set(values) != set(reference):
        return None
    largest_value = max(float(value.abs().max()) for value in reference.values())
    apart = max(float((values[name] - reference[name]).abs().max()) for name in reference)
    share = apart / largest_value
    return share if share < float("inf") else None


def training_speed(bench: Bench, save: Callable[[dict[str, Any]], None]) -> None:
    """The study's loop at batch 8 in float16, ours in production's dtype, and the largest batch."""
    blip = bench.make(FAMILIES["blip"], torch.float32)
    real = bench.size == "real"
    pictures = pictures_that_fit(bench) if real else 8
    steps = LoraSteps(blip, pictures, 8, bench.dtype, torch.float16)
    half = torch.float16 if bench.device.type == "cuda" else torch.float32
    ways: list[dict[str, Any]] = []
    share, spare = 0.8 * bench.left / 7, 0.1 * bench.left
    many = 96 if real else 12
    planned = [
        (STUDY, steps.study(8), 8, half),
        (PREPARED, steps.study(8, prepared=True), 8, half),
        ("kept vision outputs, a question a picture", steps.ours(8, grouped=False), 8, bench.dtype),
        ("kept vision outputs, a picture's rows together", steps.ours(9), 9, bench.dtype),
        ("… a larger batch", steps.ours(many), many, bench.dtype),
        (ENCODING, steps.see(8), 8, torch.float32),
    ]
    for name, step, rows, dtype in planned:
        if not fits(step, bench.device):
            ways.append({"way": name, "dtype": short(dtype), "rows": rows,
                         "reason": "doesn't fit this card: out of memory"})  # fmt: skip
        else:
            ways.append(bench.way(name, step, rows, share, dtype))
        save({"ways": training_ratios(ways), "hours": training_hours(ways)})
    limit = 3 * pictures
    found = []
    for name, make in ((PREPARED, partial(steps.study, prepared=True)), ("ours", steps.ours)):
        start, seconds = (9 if name == "ours" else 8), max(spare, bench.left) / 2
        most, ended = largest(make, start, min(limit, 4096), bench.device, seconds)
        found.append({"way": name, "rows": most, "ended_by": ended})
        save({"largest": found})


def pictures_that_fit(bench: Bench) -> int:
    """So many pictures' vision outputs as a fifth of the free memory holds, at most 1,366."""
    if bench.device.type != "cuda":
        return 64
    free = torch.cuda.mem_get_info(bench.device)[0]
    return min(1366, int(free / 5 / (577 * 768 * 2)))


def training_ratios(ways: list[dict[str, Any]]) -> list[dict[str, Any]]:
    speeds = {way["way"]: way["rows_per_second"] for way in ways if "rows_per_second" in way}
    for way in ways:
        ours = way["way"] not in (STUDY, PREPARED, ENCODING) and "rows_per_second" in way
        if ours and {STUDY, PREPARED} <= set(speeds):
            way["ratio"] = way["rows_per_second"] / speeds[STUDY]
            way["ratio_to_prepared"] = way["rows_per_second"] / speeds[PREPARED]
            way["wanted"] = WANTED if "together" in way["way"] else None
    return ways


def training_hours(ways: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Hours for the study's three epochs; ours with the encoding of its pictures."""
    speeds = {way["way"]: way["rows_per_second"] for way in ways if "rows_per_second" in way}
    built = PICTURES / speeds[ENCODING] if ENCODING in speeds else None
    found = {}
    for name, per_second in speeds.items():
        if name in (STUDY, PREPARED):
            found[name] = EPOCHS * ROWS / per_second / 3600
        elif name != ENCODING and built is not None:
            found[name] = (EPOCHS * ROWS / per_second + built) / 3600
    return found
