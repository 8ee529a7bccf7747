"""A LoRA step of decoder-only models against the library's plain loop, three questions an image.

    python benchmarks/vlm_training.py                    # CPU, float32
    python benchmarks/vlm_training.py --device cuda --dtype bfloat16 --layers 0   # all layers

The plain loop is what tutorials write: the processor's tensors of each row, labels of the answer,
the library's loss. Ours reads vision outputs that were computed once, and puts an image's questions
into one sequence where the architecture's attention allows that. Same weights, same LoRA, one run.
Floor: counted operations over the rate of a large matrix product.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from helpers.real_size import QUESTIONS, photographs
from helpers.settings import study_lora
from helpers.vlm_shapes import SHAPES
from helpers.vlm_ways import measure, run_for_models

from abo_vqa.models.encoded import EncodedImage
from abo_vqa.training.families.causal import CausalFamily
from abo_vqa.training.lora import add_lora

ANSWERS = ("word1", "word2", "word3 word4")
PLAIN, CACHED, SHARED = "the library's plain loop", "cached vision", "cached, one sequence an image"


class Steps:
    """One model with LoRA, some images and three questions about each."""

    def __init__(self, name: str, layers: int, images: int, device: torch.device,
                 dtype: torch.dtype) -> None:  # fmt: skip
        self.vqa = SHAPES[name].make(layers or SHAPES[name].layers, device, dtype)
        self.family = CausalFamily(self.vqa)
        settings = study_lora(3 * images, targets=("q_proj", "v_proj"), dropout=0.0)
        self.model, _ = add_lora(self.family, settings)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.images = photographs(images)
        self.rows = [(i, QUESTIONS[(3 * i + k) % len(QUESTIONS)], ANSWERS[k])
                     for i in range(images) for k in range(3)]  # fmt: skip
        self.texts = self.family.tokenize([q for _, q, _ in self.rows], [a for *_, a in self.rows])
        encoded = self.vqa.encode(self.vqa.preprocess(self.images))
        self.encoded = [EncodedImage(e.features.clone(), e.layout) for e in encoded]

    def plain(self) -> Callable[[], float]:
        """A step as tutorials write it, from pixels."""
        vqa, rows = self.vqa, []
        for image, question, answer in self.rows:
            pixels = vqa.preprocess([self.images[image]])[0]
            prompt = vqa.prompts.tokenize(question, pixels.layout)
            rows.append((pixels, prompt, vqa.prompts.answer_tokens(answer)))
        longest = max(len(prompt) + len(answer) for _, prompt, answer in rows)

        def padded(values: list[list[int]], pad: int) -> torch.Tensor:
            whole = [row + [pad] * (longest - len(row)) for row in values]
            return torch.tensor(whole, device=vqa.device)

        ids = padded([[*prompt, *answer] for _, prompt, answer in rows], 0)
        labels = padded([[-100] * len(prompt) + answer for _, prompt, answer in rows], -100)
        mask = padded([[1] * (len(prompt) + len(answer)) for _, prompt, answer in rows], 0)
        is_prompt = padded([[1] * len(prompt) for _, prompt, _ in rows], 0)
        inputs: dict[str, Any] = {
            key: torch.cat([pixels.tensors[key] for pixels, *_ in rows]).to(vqa.device)
            for key in rows[0][0].tensors
        }
        if vqa.architecture.grid_positions:
            inputs["mm_token_type_ids"] = (ids == vqa.image_token).int()
        types = vqa.token_types(ids, is_prompt)
        if types is not None:
            inputs["token_type_ids"] = types

        def step() -> float:
            output = vqa.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False,
                               **inputs)  # fmt: skip
            return self._backward(output.loss)

        return step

    def ours(self, shared: bool) -> Callable[[], float]:
        """The step of `Trainer`, from cached vision outputs."""
        index = torch.tensor([image for image, *_ in self.rows])
        images = self.encoded
        if not shared:
            images = [self.encoded[image] for image, *_ in self.rows]
            index = torch.arange(len(self.rows))
        batch = self.family.collate(list(range(len(self.rows))), self.texts, images, index)
        batch = batch.to(self.vqa.device)
        tokens = sum(text.loss_tokens for text in self.texts)
        return lambda: self._backward(self.family.loss(batch) / tokens)

    def _backward(self, loss: torch.Tensor) -> float:
        """The gradients of a step; returns the loss."""
        for parameter in self.trained:
            parameter.grad = None
        loss.backward()
        if self.vqa.device.type == "cuda":
            torch.cuda.synchronize()
        return float(loss.detach())


def report(name: str, args: argparse.Namespace) -> None:
    """Print a table for one model."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    steps = Steps(name, args.layers, args.images, device, dtype)
    ways = {PLAIN: steps.plain(), CACHED: steps.ours(shared=False), SHARED: steps.ours(shared=True)}
    if not steps.vqa.architecture.one_sequence:
        del ways[SHARED]
    measured = measure(ways, device, args.rounds)
    taken, counted = measured.taken, measured.counted
    peak, rate = measured.peak, measured.rate
    rows = len(steps.rows)
    length = len(steps.vqa.make_prompt(steps.encoded[0].layout, QUESTIONS[0]).ids)
    print(f"\n{name}: {args.layers or 'all'} layers, {rows} rows, {length} tokens a prompt, "
          f"{args.dtype}; largest difference of the loss "
          f"{max(abs(t.result - taken[PLAIN].result) for t in taken.values()):.1e}")  # fmt: skip
    print(f"{'way':32}{'s a step':>10}{'ratio':>7}{'proc. s':>9}{'ratio':>7}{'GFLOP':>9}"
          f"{'ratio':>7}{'floor s':>9}{'peak GiB':>10}{'rows/s':>9}")  # fmt: skip
    first = taken[PLAIN]
    for way, time in taken.items():
        floor = f"{counted[way] / rate:9.2f}" if rate else f"{'':9}"
        memory = f"{peak[way]:10.1f}" if peak else f"{'':10}"
        print(f"{way:32}{time.wall:10.3f}{first.wall / time.wall:7.2f}{time.processor:9.2f}"
              f"{first.processor / time.processor:7.2f}{counted[way] / 1e9:9.0f}"
              f"{counted[PLAIN] / counted[way]:7.2f}{floor}{memory}"
              f"{rows / time.wall:9.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    run_for_models(__doc__, images=1, rounds=3, report=report)
