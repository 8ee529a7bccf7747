"""Benchmark everything that the docs claim about GPUs on this machine's GPU, in minutes.

    make gpu                                        # 8 minutes; needs torch, transformers, peft
    python benchmarks/gpu.py --only blip llava      # some parts
    python benchmarks/gpu.py --markdown FILE        # the tables of docs/benchmarks.md from a result
    python benchmarks/gpu.py --size tiny --device cpu --minutes 1    # try the script itself

Random weights at the real sizes, drawn on the card: no hub, no data. Exactness is told against the
plain library call, one row at a time; speed against the study's loop on the same card. The result
is written after each step, so that nothing is lost if the time of a borrowed card is over.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from helpers.card import describe
from helpers.families import FAMILIES
from helpers.gpu_parts import Bench, TooLargeError, family_part, short
from helpers.gpu_tables import markdown
from helpers.gpu_training import training_part
from helpers.settings import arithmetic, weights

from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.memory import out_of_memory, release_memory

# Part → its share of the time; what is wanted most comes first.
PARTS = {"blip": 5, "training": 6, "clip-1800": 4, "llava": 6, "vilt": 2, "blip2": 4,
         "clip-3000": 3}  # fmt: skip
RESULT = Path("build/gpu.json")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cuda:1, cpu")
    parser.add_argument("--size", choices=("real", "tiny"), default="real")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="only print its tables")
    args = parser.parse_args(arguments)
    try:
        if args.markdown:
            print(markdown(read_json(args.markdown)))
            return 0
        return run(args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    """Measure, print and write; 0 if each part was measured or doesn't fit, else 1.

    Raises:
        UserError: there is no GPU for weights of the real size.
    """
    # A little is left for what a part begins shortly before its end.
    ends = time.perf_counter() + 55 * args.minutes
    device = pick_device(args.device)
    if args.size == "real" and args.device == "auto" and device.type == "cpu":
        raise UserError(
            "there is no GPU to measure. `--size tiny --device cpu --minutes 1` tries this script."
        )
    dtype = pick_dtype(weights("blip"), arithmetic(str(device)), device)
    result: dict[str, Any] = {
        "size": args.size,
        "minutes": args.minutes,
        "card": describe(device),
        "dtype": short(dtype),
        "matrix_tflops": {},
        "parts": {},
    }
    bench = Bench(device, dtype, args.size)
    print(f"{result['card']['name']}, {short(dtype)}, {args.minutes:g} minutes", flush=True)
    left = [name for name in PARTS if name in args.only]
    while left:
        name = left[0]
        now = time.perf_counter()
        if now > ends:
            unfinished = {"status": "not measured", "reason": "the time was over"}
            result["parts"] |= dict.fromkeys(left, unfinished)
            write_json(result, args.out)
            break
        bench.until = now + (ends - now) * PARTS[name] / sum(PARTS[part] for part in left)
        measure_part(name, bench, result, args.out)
        left.pop(0)
    print(markdown(result))
    print(f"written to {args.out}")
    done = ("measured", "doesn't fit")
    return int(any(part["status"] not in done for part in result["parts"].values()))


def measure_part(name: str, bench: Bench, result: dict[str, Any], out: Path) -> None:
    """One part; what it finds is written at once, also if it fails on the way."""
    began = time.perf_counter()
    part: dict[str, Any] = {"status": "not finished"}
    result["parts"][name] = part

    def save(results: dict[str, Any]) -> None:
        part.update(results)
        part["seconds"] = time.perf_counter() - began
        result["matrix_tflops"] = {short(d): rate / 1e12 for d, rate in bench.rates.items()}
        write_json(result, out)

    print(f"{name}: {bench.until - began:.0f} s …", end=" ", flush=True)
    work = training_part if name == "training" else partial(family_part, name)
    status: dict[str, Any] = {"status": "measured"}
    try:
        work(bench, save)
    except TooLargeError as error:
        status = {"status": "doesn't fit", "reason": str(error)}
    except ImportError as error:
        status = {"status": "not measured", "reason": f"{error.name} isn't installed"}
    except Exception as error:
        if isinstance(error, MemoryError | RuntimeError) and out_of_memory(error):
            status = {"status": "doesn't fit", "reason": "out of memory"}
        else:
            traceback.print_exc()
            status = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    release_memory()
    save(status)
    print(f"{status['status']} after {part['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    assert set(FAMILIES) | {"training"} == set(PARTS)
    sys.exit(main())
