"""Models of the real sizes with random weights, and what a benchmark measures them with.

Random weights cost what trained ones do. They are drawn wide enough that pictures and questions
change the answers, so that "the same answers" means something.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from helpers.settings import Weights
from PIL import Image

QUESTIONS = (
    "what color is the chair in the picture?",
    "what material is this lamp shade made of?",
    "how many drawers does this cabinet have?",
    "is the phone case transparent?",
    "what is the shape of the table top?",
    "what type of product is shown here?",
    "does the shoe have laces?",
    "which pattern is printed on the pillow cover?",
)


def photographs(count: int, seed: int = 0) -> list[Image.Image]:
    """Noise of 256 x 256 pixels, smooth enough to look like something to a patch."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, size=(count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(s).resize((256, 256), Image.Resampling.BICUBIC) for s in small]


def bert_tokenizer() -> Any:
    """BERT's tokenizer over the benchmark's words, with BLIP's start token."""
    from transformers import BertTokenizer

    words = sorted({w for q in QUESTIONS for w in re.findall(r"\w+|\?", q)})
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    fill = [f"word{i}" for i in range(30522 - len(specials) - len(words))]
    tokenizer = BertTokenizer(vocab={w: i for i, w in enumerate([*specials, *words, *fill])})
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return tokenizer


def blip_base(longest: int) -> Any:
    """`Blip` with BLIP-VQA-base's sizes, whose answers have exactly `longest` tokens.

    The end token is made impossible: how soon random weights end an answer means nothing.
    """
    from transformers import BlipConfig, BlipForQuestionAnswering, BlipImageProcessor, BlipProcessor

    from abo_vqa.models.blip.model import Blip

    tokenizer = bert_tokenizer()
    text = {"num_attention_heads": 12, "vocab_size": 30524, "encoder_hidden_size": 768}
    text |= {"bos_token_id": tokenizer.bos_token_id, "sep_token_id": tokenizer.sep_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.sep_token_id}
    vision = {"image_size": 384, "patch_size": 16, "initializer_range": 0.02}
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision)
    model = BlipForQuestionAnswering(config).eval().requires_grad_(False)
    for name, weights in model.named_parameters():
        if "text" in name and name.endswith((".query.weight", ".key.weight")):
            # Sharper attention: else every token counts alike, and pictures look the same. Much
            # sharper, and rounding alone would change the answers of the library as well.
            weights.mul_(4)
    model.text_decoder.cls.predictions.decoder.bias[tokenizer.sep_token_id] = -1e4
    size = {"height": 384, "width": 384}
    processor = BlipProcessor(BlipImageProcessor(size=size), tokenizer)
    checkpoint = Weights("BLIP-VQA-base, random weights", "blip", max_new_tokens=longest)
    return Blip(model, processor, checkpoint, torch.device("cpu"))


def operations(run: Callable[[], Any]) -> float:
    """Floating-point operations of a run (matrix products and convolutions; 2 a multiply-add)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def peak_rate(seconds: float = 5.0) -> float:
    """Operations a second of a large matrix product, at best: the rate that floors use."""
    a, b = torch.randn(1024, 3072), torch.randn(3072, 3072)
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * 1024 * 3072 * 3072 / (time.perf_counter() - start))
    return best


class Taken(NamedTuple):
    """Seconds on the clock and of the processor, and what came out."""

    wall: float
    processor: float
    result: Any


def fastest(ways: dict[str, Callable[[], Any]], repeat: int) -> dict[str, Taken]:
    """The best times of each way; the ways take turns.

    Other work on the machine only ever adds time, to the clock more than to the processor's
    seconds (all threads'), so the best of each counts.
    """
    found: dict[str, Taken] = {}
    for _ in range(repeat):
        for name, run in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            result = run()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            best = found.get(name, Taken(wall, processor, result))
            found[name] = Taken(min(wall, best.wall), min(processor, best.processor), result)
    return found
