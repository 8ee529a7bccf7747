"""CLIP ViT-B/32's candidates against the study's way: every prompt whole, padded to 77 tokens.

    python benchmarks/clip_inference.py

Random weights at the real size, OpenAI's tokenizer, float32, CPU. The candidates are as many words
as the study had answers: our fixed list, then the nouns and adjectives that are most frequent in
WordNet's texts. The study's way is timed on a few prompts, ours on all; both are given a prompt.
Floor: counted operations over the rate of a large
matrix product.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
from helpers.real_size import QUESTIONS, Taken, fastest, operations, peak_rate

from abo_vqa.evaluation.wordnet import ensure_wordnet
from abo_vqa.models.clip.text import TextTower

ANSWERS = Path(__file__).parent.parent / "conf" / "answers" / "common.txt"
SAMPLE = 32  # prompts that the study's way is timed on


def words(count: int) -> list[str]:
    """One-word answers: the fixed list's, then frequent nouns and adjectives."""
    lines = ANSWERS.read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    counts: Counter[str] = Counter()
    # One sense per line, `color%1:07:00:: 1 25`: after the % a noun (1), an adjective (3, 5).
    for line in ensure_wordnet().join("cntlist.rev").open().read().decode().splitlines():
        sense, _, count_text = line.split()
        word, _, kind = sense.partition("%")
        if word.isalpha() and kind[0] in "135":
            counts[word] += int(count_text)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    return list(dict.fromkeys([*listed, *frequent]))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=1800, help="answers a question")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu").eval().requires_grad_(False)
    tower = TextTower(model, open_clip.get_tokenizer("ViT-B-32"))
    candidates = words(args.candidates)
    starts = [f"Question: {question} Answer: " for question in QUESTIONS]

    def study() -> torch.Tensor:
        prompts = [starts[0] + c for c in candidates[:SAMPLE]]
        with torch.no_grad():
            return model.encode_text(tower.tokenizer(prompts), normalize=True)

    def cut() -> torch.Tensor:
        with torch.no_grad():
            return tower.encode([starts[0] + c for c in candidates[: SAMPLE * 4]])

    def shared() -> dict[int, torch.Tensor]:
        text_features: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for some, features in tower.encode_pairs(starts, candidates):
                text_features |= dict(zip(some, features, strict=True))
        return text_features

    ways = {
        "77 tokens a prompt": (study, SAMPLE),
        "cut to length": (cut, SAMPLE * 4),
        "start shared": (shared, len(starts) * len(candidates)),
    }
    shared()  # the tokenizer remembers words it has spelled: let it know them in every way
    rate = peak_rate()
    counted = {name: operations(run) for name, (run, _) in ways.items()}
    timed = fastest({name: run for name, (run, _) in ways.items()}, args.repeat)
    base = timed["77 tokens a prompt"]
    print(f"{len(starts)} questions x {len(candidates)} answers, {rate / 1e9:.0f} GFLOP/s at best")
    _print_table(timed, {name: prompts for name, (_, prompts) in ways.items()}, counted, rate)
    _print_differences(base.result, timed["start shared"].result[0][:SAMPLE])


def _print_table(
    timed: dict[str, Taken], prompts: dict[str, int], counted: dict[str, float], rate: float
) -> None:
    """Print milliseconds per prompt of each way, against the first one and the floor."""
    base = timed["77 tokens a prompt"]
    print(
        f"{'way':20}{'ms/prompt':>11}{'ratio':>8}{'CPU ms':>9}{'ratio':>8}"
        f"{'GFLOP/prompt':>14}{'floor ms':>10}{'of peak':>9}"
    )
    for name, (wall, processor, _) in timed.items():
        n = prompts[name]
        floor = counted[name] / rate
        print(
            f"{name:20}{wall / n * 1e3:11.2f}{base.wall / SAMPLE * n / wall:8.1f}"
            f"{processor / n * 1e3:9.2f}{base.processor / SAMPLE * n / processor:8.1f}"
            f"{counted[name] / n / 1e9:14.3f}{floor / n * 1e3:10.2f}{floor / wall:9.0%}"
        )


def _print_differences(expected: torch.Tensor, ours: torch.Tensor) -> None:
    """Print how far features are apart, and whether the best answer is the same."""
    image_features = torch.stack(
        [torch.nn.functional.normalize(p, dim=0) for p in torch.randn(2000, 512)]
    )
    same = (
        ((image_features @ expected.T).argmax(1) == (image_features @ ours.T).argmax(1))
        .float()
        .mean()
    )
    print(f"largest difference of unit features: {(ours - expected).abs().max():.1e}")
    print(f"same best answer for random image features: {same:.2%} of {len(image_features)}")


if __name__ == "__main__":
    main()
