"""Train every small checkpoint: one process per core, finished parts kept by fingerprint.

The vision tower comes first; the models over it start from its weights. The two text models
need no images and use the other core meanwhile.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.scratch import scratch
from sample import pretraining

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BlipVisionModel

    from sample.pretraining import Pair, Pictures
    from sample.scene import Look

Tokens = npt.NDArray[np.float16]

PICTURES = 30_000
TOWER_THREADS = 2  # all other parts wait for the tower; fixed, because it affects rounding
HELD_OUT = 1_000  # drawn, never trained on: what `accuracy` is measured on
TOKENS = "tokens.npy"
MODELS = ("blip", "blip2", "clip", "llava", "vilt", "bart", "encoder")
AFTER_TOWER = ("blip", "vilt", "llava", "blip2", "clip")  # the longest first
STEPS = {
    "tower": 6000,
    "blip": 1400,
    "blip2": 900,
    "clip": 1000,
    "llava": 800,
    "llava-tower": 300,
    "vilt": 600,
    "bart": 1000,
    "encoder": 1000,
}


def build(models: Path, seed: int, workers: int) -> Path:
    """Train every checkpoint into `models`; return the folder that a resumed call reuses."""
    recipe = {"pretraining": pretraining.recipe(), "steps": STEPS, "n": PICTURES, "seed": seed}
    work = scratch("sample", fingerprint(recipe))
    pretraining.pictures(pretraining.draw_looks(PICTURES, seed), work, workers)
    context = get_context("spawn")  # a forked torch may hang in its thread pool
    with ProcessPoolExecutor(workers, mp_context=context, initializer=one_thread) as pool:
        tower = pool.submit(make, "tower", work, seed)
        jobs = [pool.submit(make, name, work, seed) for name in ("bart", "encoder")]
        print(tower.result(), flush=True)
        jobs += [pool.submit(make, name, work, seed) for name in AFTER_TOWER]
        for job in as_completed(jobs):
            print(job.result(), flush=True)
    for name in MODELS:
        # Removed first: DVC may have linked these files to its cache, where writing would reach.
        shutil.rmtree(models / name, ignore_errors=True)
        shutil.copytree(work / name, models / name)
    return work


def one_thread() -> None:
    """Set up a worker: one thread, and an end when the parent is killed."""
    import torch
    from transformers.utils import logging

    Thread(target=leave_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    logging.set_verbosity_error()


def leave_with(parent: int) -> None:
    """End this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(2)
    os._exit(1)


def make(name: str, work: Path, seed: int) -> str:
    """Train one part unless it is there already; return a line about it."""
    folder = work / name
    if folder.is_dir():
        return f"{name}: already trained"
    began = time.monotonic()
    unfinished = work / f"{name}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    looks = pretraining.draw_looks(PICTURES, seed)
    note = MAKERS[name](Job(unfinished, work, seed, looks))
    for file in unfinished.iterdir():
        file.chmod(0o644)  # safetensors writes private files
    unfinished.rename(folder)
    return f"{name}: {note} ({time.monotonic() - began:.0f} s)"


@dataclass(frozen=True)
class Job:
    """What a maker gets: where to save, where the tower and pictures are, what was drawn."""

    folder: Path
    work: Path
    seed: int
    looks: list[Look]

    @property
    def images(self) -> Pictures:
        """[n, 64, 64, 3] uint8, memory-mapped; the held-out ones are last."""
        return pretraining.pictures(self.looks, self.work, 1)

    @property
    def train(self) -> int:
        """How many images are trained on."""
        return len(self.looks) - HELD_OUT

    def pairs(self) -> list[Pair]:
        """Questions and answers about the training pictures."""
        r = random.Random(self.seed)
        return [
            pair
            for number, look in enumerate(self.looks[: self.train])
            for pair in pretraining.ask(number, look, r)
        ]

    @property
    def tokens(self) -> Tokens:
        """The tower's outputs [n, 65, width] for every picture, memory-mapped."""
        tokens: Tokens = np.load(self.work / "tower" / TOKENS, mmap_mode="r")
        return tokens

    def tower(self) -> BlipVisionModel:
        """The trained vision tower."""
        from transformers import BlipVisionModel

        return BlipVisionModel.from_pretrained(self.work / "tower").eval()


def make_tower(job: Job) -> str:
    """Train the shared vision tower and compute all images' tokens."""
    import torch

    from sample import trunk
    from sample.training import attribute_labels

    torch.set_num_threads(TOWER_THREADS)
    model = trunk.blip_tower(job.seed)
    images, labels, n = job.images, attribute_labels(job.looks), job.train
    features = trunk.last_hidden(model)
    readout = trunk.train_tower(
        "tower",
        model,
        features,
        images[:n],
        labels[:n],
        steps=STEPS["tower"],
        seed=job.seed,
        lr=1.8e-3,
        keep=32,
    )
    model.save_pretrained(job.folder)
    np.save(job.folder / TOKENS, trunk.features(features, images))
    torch.set_num_threads(1)  # this process goes on to other parts
    return str(trunk.accuracy(readout, features, images[n:], labels[n:]))


def make_blip(job: Job) -> str:
    """Train the small BLIP."""
    from sample import blip
    from sample.vocabulary import bert_tokenizer

    tokenizer, tower = bert_tokenizer(blip.MAX_TEXT, ("[DEC]", "[ENC]")), job.tower()
    model = blip.blip(tokenizer, job.seed)
    model.vision_model.load_state_dict(tower.state_dict())
    loss = blip.train_text(
        model,
        tokenizer,
        job.tokens,
        job.pairs(),
        steps=STEPS["blip"],
        batch=128,
        lr=1e-3,
        seed=job.seed,
    )
    blip.save_blip(model, tokenizer, job.folder)
    return f"loss {loss:.3f}"


def make_blip2(job: Job) -> str:
    """Train the small BLIP-2."""
    from sample import blip2

    tokenizer, tower = blip2.opt_tokenizer(), job.tower()
    model = blip2.blip2(tokenizer, job.seed)
    model.vision_model.load_state_dict(tower.state_dict())
    loss = blip2.train_text(
        model,
        tokenizer,
        job.tokens,
        job.pairs(),
        steps=STEPS["blip2"],
        batch=96,
        lr=1e-3,
        seed=job.seed,
    )
    blip2.save_blip2(model, tokenizer, job.folder)
    return f"loss {loss:.3f}"


def make_clip(job: Job) -> str:
    """Train the small CLIP."""
    from sample import clip

    model, tower = clip.clip(job.seed), job.tower()
    clip.adopt(model, tower)
    loss = clip.train(
        model,
        job.tokens[: job.train, 0],
        job.looks[: job.train],
        steps=STEPS["clip"],
        batch=128,
        lr=1e-3,
        seed=job.seed,
    )
    clip.save_clip(model, job.folder)
    return f"loss {loss:.3f}"


def make_llava(job: Job) -> str:
    """Train the small LLaVA, its vision tower first."""
    from sample import llava, trunk
    from sample.training import attribute_labels

    tokenizer = llava.llama_tokenizer()
    model = llava.llava(tokenizer, job.seed)
    llava.adopt(model, job.tower())
    vision, n = model.model.vision_tower, job.train

    def read(x: Tensor, chosen: Tensor | None) -> Tensor:
        hidden: Tensor = vision(x, output_hidden_states=True).hidden_states[llava.LAYER]
        return hidden

    trunk.train_tower(
        "llava tower",
        vision,
        read,
        job.images[:n],
        attribute_labels(job.looks)[:n],
        steps=STEPS["llava-tower"],
        seed=job.seed,
        lr=3e-4,
    )
    tokens = trunk.features(read, job.images)[:, 1:]  # LLaVA reads the patches only
    loss = llava.train_text(
        model,
        tokenizer,
        tokens,
        job.pairs(),
        steps=STEPS["llava"],
        batch=64,
        lr=1e-3,
        seed=job.seed,
    )
    llava.save_llava(model, tokenizer, job.folder)
    return f"loss {loss:.3f}"


def make_vilt(job: Job) -> str:
    """Train the small ViLT."""
    from sample import vilt
    from sample.vocabulary import bert_tokenizer

    tokenizer, pairs = bert_tokenizer(vilt.MAX_TEXT), job.pairs()
    model = vilt.vilt(tokenizer, sorted({pair.answer for pair in pairs}), job.seed)
    vilt.adopt(model, job.tower())
    loss = vilt.train(
        model, tokenizer, job.images, pairs, steps=STEPS["vilt"], batch=64, lr=1e-3, seed=job.seed
    )
    vilt.save_vilt(model, tokenizer, job.folder)
    return f"loss {loss:.3f}"


def make_bart(job: Job) -> str:
    """Train the small BART."""
    from sample import scorers

    tokenizer = scorers.bart_tokenizer()
    model = scorers.bart(tokenizer, job.seed)
    loss = scorers.train_bart(
        model, tokenizer, job.looks, steps=STEPS["bart"], batch=64, lr=2e-3, seed=job.seed
    )
    scorers.save_bart(model, tokenizer, job.folder)
    return f"loss {loss:.3f}"


def make_encoder(job: Job) -> str:
    """Train the small text encoder."""
    from sample import scorers

    tokenizer = scorers.encoder_tokenizer()
    model = scorers.encoder(tokenizer, job.seed)
    loss = scorers.train_encoder(
        model, tokenizer, job.looks, steps=STEPS["encoder"], batch=64, lr=2e-3, seed=job.seed
    )
    scorers.save_encoder(model, tokenizer, job.folder)
    return f"loss {loss:.3f}"


MAKERS: dict[str, Callable[[Job], str]] = {
    "tower": make_tower,
    "blip": make_blip,
    "blip2": make_blip2,
    "clip": make_clip,
    "llava": make_llava,
    "vilt": make_vilt,
    "bart": make_bart,
    "encoder": make_encoder,
}
