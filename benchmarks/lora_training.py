"""LoRA on BLIP-VQA-base against the study's loop, written plainly with the same library.

    python benchmarks/lora_training.py                       # CPU, float32: the committed numbers
    python benchmarks/lora_training.py --device cuda         # a GPU: fp16 and bf16, largest batch

Random weights at the real size, the study's settings (rank 16 on query and value, batch 8). The
study's loop encodes the picture anew for each row, pads answers to 20 tokens and lets the padding
count; on a GPU it has fp16 autocast and a scaler, as the study had. Ours is `Trainer`'s own step.
Floor: counted operations over the rate of a large matrix product.
"""

from __future__ import annotations

import argparse
import copy
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from helpers.real_size import QUESTIONS, blip_base, operations, peak_rate, photographs
from peft import LoraConfig, get_peft_model

from abo_vqa.config import load_config
from abo_vqa.training.batches import Examples
from abo_vqa.training.checkpoints import Checkpoints
from abo_vqa.training.loop import Trainer
from abo_vqa.training.lora import add_lora
from abo_vqa.training.pictures import Resident

ROWS, PICTURES = 36_373, 11_821  # the study's training rows and pictures
EPOCHS = 3
ANSWERS = ("word1", "word2", "word3 word4", "word5")


def settings(batch: int) -> Any:
    """The study's, whatever params.yaml says at the moment."""
    study = {"r": 16, "alpha": 16, "dropout": 0.05, "targets": ("query", "value"), "lr": 5e-5,
             "rslora": False, "dora": False, "batch_size": batch, "accumulate": 1,
             "group_pictures": True, "epochs": 1, "compile": False}  # fmt: skip
    return load_config().lora.model_copy(update=study)


def table_of(pictures: int) -> pd.DataFrame:
    """Three questions a picture."""
    rows = [
        (str(i), QUESTIONS[(3 * i + k) % len(QUESTIONS)], ANSWERS[(i + k) % len(ANSWERS)])
        for i in range(pictures)
        for k in range(3)
    ]
    return pd.DataFrame(rows, columns=["image_path", "question", "answer"])


class Bench:
    """One BLIP-base with LoRA, some pictures and three questions about each."""

    def __init__(self, pictures: int, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.blip = blip_base(3)
        self.blip.device = device
        self.blip.model.to(device)
        lora = settings(batch)
        untouched = copy.deepcopy(self.blip.model) if device.type == "cpu" else None
        self.model, _ = add_lora(self.blip.model, lora, load_config().models.blip)
        self.plain = self.model  # on a GPU its modules are the library's own
        if untouched is not None:
            wanted = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
                                target_modules=list(lora.targets))  # fmt: skip
            self.plain = get_peft_model(untouched, wanted)
        self.images = photographs(pictures)
        self.table = table_of(pictures)
        with torch.no_grad():
            kept = torch.cat([self.blip.encode(self.images[i : i + 8])
                              for i in range(0, pictures, 8)])  # fmt: skip
        kept = kept.clone() if device.type == "cpu" else kept.to(dtype)
        paths = [str(i) for i in range(pictures)]
        text = self.blip.model.config.text_config
        tokenizer = self.blip.processor.tokenizer
        self.examples = Examples(
            self.table, tokenizer, text.bos_token_id, text.sep_token_id,
            Resident(kept, paths, device),
        )  # fmt: skip
        self.trainer = Trainer(
            self.model, self.examples, range(len(self.table)), lora, 0,
            Checkpoints(Path(tempfile.mkdtemp()), 1), dtype,
        )  # fmt: skip
        trained = [p for p in self.plain.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=5e-5)
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    def study(self, batch: int) -> Callable[[], Any]:
        """One step on `batch` rows in random order, their pictures encoded a row at a time."""
        rows = self.table.sample(batch, random_state=1)  # hence in random order
        images = [self.images[int(path)] for path in rows["image_path"]]
        processor = self.blip.processor

        def step() -> float:
            self.plain.train()
            inputs = processor(images=images, text=list(rows["question"]), padding=True,
                               return_tensors="pt").to(self.device)  # fmt: skip
            labels = processor.tokenizer(
                list(rows["answer"]), padding="max_length", max_length=20, return_tensors="pt"
            ).input_ids.to(self.device)
            half = self.device.type == "cuda"
            with torch.autocast("cuda", torch.float16) if half else nullcontext():
                loss = self.plain(**inputs, labels=labels).loss
            torch.autograd.backward(self.scaler.scale(loss.sum()))
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            return float(loss.detach().sum())

        return step

    def ours(self, batch: int, grouped: bool = True) -> Callable[[], Any]:
        """`Trainer`'s step on the same number of rows (whole pictures if `grouped`)."""
        rows = list(range(batch)) if grouped else [3 * i for i in range(batch)]

        def step() -> float:
            self.model.train()
            return self.trainer.update(rows, self.trainer.prepare(rows), False)[0]

        return step

    def encode(self, pictures: int) -> Callable[[], Any]:
        """What the stage `embed` does for some pictures."""
        return lambda: self.blip.encode(self.images[:pictures]).shape


STUDY, CACHED = "the study's loop", "cached vision"
TOGETHER, BUILDING = "cached, a picture's rows together", "building the cache (a picture)"


def cpu(args: argparse.Namespace) -> None:
    """Seconds a row of each way, against counted operations."""
    bench = Bench(args.batch, args.batch, torch.device("cpu"), torch.float32)
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
    cost = {name: median(found) for name, found in times.items()}
    best = {name: min(found) for name, found in times.items()}  # other work only ever adds time
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
    print("steps timed: " + ", ".join(f"{len(found)} of {name}" for name, found in times.items()))


def gpu(args: argparse.Namespace) -> None:
    """Rows a second and peak memory, at batch 8 and at the largest that fits; a profile."""
    device = torch.device(args.device)
    print(torch.cuda.get_device_name(device))
    for dtype in (torch.float16, torch.bfloat16):
        bench = Bench(args.pictures, args.batch, device, dtype)
        for name, make in (("study (fp16)", bench.study), (f"ours ({dtype})", bench.ours)):
            batch, largest = args.batch, False
            while not largest and batch <= len(bench.table):
                try:
                    speed, peak = measure(make(batch), batch, device)
                except torch.OutOfMemoryError:
                    largest = True
                    torch.cuda.empty_cache()
                else:
                    minutes = EPOCHS * ROWS / speed / 60
                    print(f"{name:22} batch {batch:5}: {speed:8.0f} rows/s, {peak / 1e9:6.2f} GB, "
                          f"{minutes:6.1f} min for {EPOCHS} epochs")  # fmt: skip
                    batch *= 2
    profile(bench.ours(args.batch))


def measure(step: Callable[[], Any], rows: int, device: torch.device) -> tuple[float, float]:
    """Rows a second and peak bytes of a step, warmed up."""
    for _ in range(3):
        step()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < 5 or steps < 3:
        step()
        steps += 1
    torch.cuda.synchronize(device)
    seconds = time.perf_counter() - began
    return steps * rows / seconds, float(torch.cuda.max_memory_allocated(device))


def profile(step: Callable[[], Any]) -> None:
    """Where the time of a step goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    kinds = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        kinds.append(ProfilerActivity.CUDA)
    with watch(activities=kinds) as found:
        step()
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=40))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=2048, help="on a GPU")
    parser.add_argument("--rounds", type=int, default=2, help="on the CPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="on the CPU: only a profile of ours")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.device != "cpu":
        gpu(args)
    elif args.profile:
        profile(Bench(args.batch, args.batch, torch.device("cpu"), torch.float32).ours(9))
    else:
        cpu(args)


if __name__ == "__main__":
    main()
