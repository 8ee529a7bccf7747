"""BLIP-VQA-base against the study's loop: `generate` on one picture and one question at a time.

    python benchmarks/blip_inference.py

Random weights at the real size, float32, CPU; three questions a picture, three answer tokens in
every way (one word and its end). Floor: counted operations over the rate of a large matrix product.
"""

from __future__ import annotations

import argparse

import torch
from helpers.real_size import QUESTIONS, blip_base, fastest, operations, peak_rate, photographs

LONGEST = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    blip = blip_base(LONGEST)
    pictures = photographs(args.pictures)
    images = [picture for picture in pictures for _ in range(3)]
    questions = [QUESTIONS[(i * 5 + i // 3) % len(QUESTIONS)] for i in range(len(images))]
    stored = blip.encode_images(pictures)
    image_index = [i // 3 for i in range(len(images))]

    def study() -> list[str]:
        generated = []
        for image, question in zip(images, questions, strict=True):
            inputs = blip.processor(images=image, text=question, return_tensors="pt")
            ids = blip.model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
            generated.append(blip.processor.decode(ids[0], skip_special_tokens=True).strip())
        return generated

    ways = {
        "the study's loop": study,
        "vision once per image": lambda: [a.text for a in blip.answer(images, questions)],
        "cached vision": lambda: [
            a.text for a in blip.predict_answers(stored, image_index, questions)
        ],
    }
    counted = {name: operations(run) for name, run in ways.items()}
    rate = peak_rate()
    timed = fastest(ways, args.repeat)
    base = timed["the study's loop"]
    rows = len(questions)
    print(f"{rows} rows, {args.threads} threads, {rate / 1e9:.0f} GFLOP/s at best")
    print(
        f"{'way':24}{'ms/row':>9}{'ratio':>8}{'CPU ms':>9}{'ratio':>8}"
        f"{'GFLOP/row':>11}{'floor ms':>10}{'of peak':>9}  equal"
    )
    for name, (wall, processor, answers) in timed.items():
        floor = counted[name] / rate
        equal = sum(a == b for a, b in zip(answers, base.result, strict=True))
        print(
            f"{name:24}{wall / rows * 1e3:9.0f}{base.wall / wall:8.2f}"
            f"{processor / rows * 1e3:9.0f}{base.processor / processor:8.2f}"
            f"{counted[name] / rows / 1e9:11.2f}{floor / rows * 1e3:10.0f}{floor / wall:9.0%}"
            f"  {equal}/{rows}"
        )
    print(f"different answers among them: {len(set(base.result))}")


if __name__ == "__main__":
    main()
