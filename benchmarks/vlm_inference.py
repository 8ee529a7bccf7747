"""Answers of decoder-only models against the library's plain loop, three questions an image.

    python benchmarks/vlm_inference.py                   # CPU, float32
    python benchmarks/vlm_inference.py --device cuda --dtype bfloat16 --layers 0 --images 8

The plain loop is what the library's documentation shows: the processor and `generate` for a row at
a time. Ours computes an image's vision output and what precedes its questions once. Same weights,
one run; all ways write three tokens (a word and its end), as when random weights end an answer
means nothing. Floor: counted operations over the rate of a large matrix product.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from helpers.families import on_device
from helpers.real_size import QUESTIONS, photographs
from helpers.vlm_shapes import SHAPES
from helpers.vlm_ways import measure, run_for_models
from PIL import Image

PLAIN, OURS, STORED = "the library's plain loop", "shared start", "stored vision, shared start"


def library_inputs(vqa: Any, image: Image.Image, question: str) -> Any:
    """What the library makes of one row."""
    prompt, processor = vqa.checkpoint.prompt.replace("{question}", question), vqa.processor
    if processor.chat_template is None:
        token = processor.image_token
        text = prompt if token in prompt else token + prompt
        return processor(images=image, text=text, return_tensors="pt")
    content = [{"type": "image", "image": image}, {"type": "text", "text": prompt}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True,
        return_dict=True, return_tensors="pt",
    )  # fmt: skip


def ways_of(vqa: Any, count: int) -> dict[str, Callable[[], list[str]]]:
    """Each way of answering three questions about each of `count` images."""
    images = photographs(count)
    questions = [QUESTIONS[(3 * i + k) % len(QUESTIONS)] for i in range(count) for k in range(3)]
    index = [row // 3 for row in range(len(questions))]
    stored = vqa.encode_images(images)
    longest = vqa.checkpoint.max_new_tokens

    def plain() -> list[str]:
        texts = []
        for image, question in zip(index, questions, strict=True):
            inputs = on_device(vqa.model, library_inputs(vqa, images[image], question))
            inputs.pop("labels", None)  # PaliGemma's processor gives them without being asked
            with torch.inference_mode():
                ids = vqa.model.generate(**inputs, max_new_tokens=longest, do_sample=False)
            new = ids[0, inputs["input_ids"].shape[1] :]
            texts.append(vqa.processor.tokenizer.decode(new, skip_special_tokens=True).strip())
        return texts

    def ours() -> list[str]:
        return [a.text for a in vqa.answer([images[i] for i in index], questions)]

    def from_stored() -> list[str]:
        return [a.text for a in vqa.predict_answers(stored, index, questions)]

    return {PLAIN: plain, OURS: ours, STORED: from_stored}


def report(name: str, args: argparse.Namespace) -> None:
    """Print a table for one model."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    shape = SHAPES[name]
    vqa = shape.make(args.layers or shape.layers, device, dtype, endless=True)
    ways = ways_of(vqa, args.images)
    measured = measure(ways, device, args.rounds)
    taken, counted = measured.taken, measured.counted
    peak, rate = measured.peak, measured.rate
    first, rows = taken[PLAIN], 3 * args.images
    layout = vqa.preprocess(photographs(1))[0].layout
    length = len(vqa.make_prompt(layout, QUESTIONS[0]).ids)
    print(f"\n{name}: {args.layers or 'all'} layers, {rows} rows, {length} tokens a prompt, "
          f"{args.dtype}; {len(set(first.result))} different answers")  # fmt: skip
    print(f"{'way':30}{'rows/s':>9}{'ratio':>7}{'proc. s/row':>13}{'ratio':>7}{'GFLOP/row':>11}"
          f"{'ratio':>7}{'floor s/row':>13}{'peak GiB':>10}  equal")  # fmt: skip
    for way, time in taken.items():
        floor = f"{counted[way] / rate / rows:13.2f}" if rate else f"{'':13}"
        memory = f"{peak[way]:10.1f}" if peak else f"{'':10}"
        equal = sum(a == b for a, b in zip(time.result, first.result, strict=True))
        print(f"{way:30}{rows / time.wall:9.2f}{first.wall / time.wall:7.2f}"
              f"{time.processor / rows:13.2f}{first.processor / time.processor:7.2f}"
              f"{counted[way] / rows / 1e9:11.0f}{counted[PLAIN] / counted[way]:7.2f}"
              f"{floor}{memory}  {equal}/{rows}", flush=True)  # fmt: skip


if __name__ == "__main__":
    run_for_models(__doc__, images=2, rounds=2, report=report)
