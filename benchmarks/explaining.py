"""Seconds that explaining an answer takes, against answering alone, and what sharing weights saves.

    python benchmarks/explaining.py                # BLIP-VQA-base's size, random weights, CPU
    python benchmarks/explaining.py --sample       # the sample's models, in a checkout with results

An explanation is the answer, the five likeliest texts and the attention maps, as the page makes
them; its image is encoded once for the zero-shot and the fine-tuned model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from helpers.real_size import QUESTIONS, blip_base, photographs

from abo_vqa.core.config import load_config
from abo_vqa.core.paths import FINETUNED_MODEL
from abo_vqa.models.answering.finetuned import load_by_name
from abo_vqa.models.answers import CandidateAnswers
from abo_vqa.models.base import VQAModel
from abo_vqa.models.explaining.registry import explainer_of
from abo_vqa.models.sharing import share_equal_weights
from abo_vqa.serving.page.products import Products
from abo_vqa.serving.page.rendering import RepliesView
from abo_vqa.serving.page.respondents import Respondents

NOTHING = CandidateAnswers((), 128, "first_token")


def processor_seconds(run: Callable[[], Any], repeat: int) -> float:
    """The fewest processor seconds of several runs."""
    times = []
    for _ in range(repeat + 1):  # the first one warms up
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times[1:])


def compare(name: str, model: VQAModel, images: list[Any], repeat: int) -> None:
    explainer = explainer_of(model, NOTHING)
    questions = QUESTIONS[: len(images)]
    encoded = model.encode_images(images)
    ways = {
        "answer": lambda: [model.answer([i], [q]) for i, q in zip(images, questions, strict=True)],
        "explanation": lambda: [
            explainer.explain(i, q) for i, q in zip(images, questions, strict=True)
        ],
        "answer, encoded before": lambda: model.predict_answers(
            encoded, list(range(len(images))), questions
        ),
        "explanation, encoded before": lambda: [
            explainer.explain(i, q, lambda _, n=n: encoded[n : n + 1])
            for n, (i, q) in enumerate(zip(images, questions, strict=True))
        ],
    }
    base = None
    for way, run in ways.items():
        seconds = processor_seconds(run, repeat) / len(images)
        base = base or seconds
        print(f"{name:12}{way:30}{1000 * seconds:10.1f} ms{seconds / base:8.2f}")


def sample(repeat: int, threads: int) -> None:
    config = load_config()
    zero_shot, tuned = (load_by_name(n, config) for n in (config.lora.model, FINETUNED_MODEL))
    total = sum(p.nbytes for p in tuned.model.parameters())
    released = share_equal_weights(tuned, zero_shot)
    print(f"shared: {released / 1e6:.1f} of the fine-tuned model's {total / 1e6:.1f} MB")
    torch.set_num_threads(threads)  # loading has set the settings' number
    products, respondents = Products.read(config), Respondents(config)
    images = [products.image(i) for i in range(4)]
    compare("zero-shot", zero_shot, images, repeat)
    compare("fine-tuned", tuned, images, repeat)

    def whole_page() -> None:
        view = RepliesView(respondents.respondents, images[0], QUESTIONS[0], None)
        for reply in respondents.ask(images[0], QUESTIONS[0]):
            view.add(reply)
            view.render()

    print(f"the page's answer, three models: {1000 * processor_seconds(whole_page, repeat):.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{'model':12}{'way':30}{'processor':>13}{'ratio':>8}")
    if args.sample:
        sample(args.repeat, args.threads)
    else:
        compare("BLIP-base", blip_base(3), photographs(args.images), args.repeat)


if __name__ == "__main__":
    main()
