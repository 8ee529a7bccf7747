"""How many answers half precision changes: weights and stored vision outputs against float32.

    python benchmarks/half_precision.py          # after `dvc repro generate split`

The profile's own checkpoints and test rows, on the CPU.
"""

from __future__ import annotations

import argparse

import torch

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.embeddings.encoding import to_array
from abo_vqa.models.registry import checkpoint_of, load_model

MODELS = ("blip", "blip2", "clip-train", "llava", "vilt")


def with_dtype(config: Config, name: str, dtype: str) -> Config:
    """The configuration with one checkpoint in another number format."""
    key = name.partition("-")[0]
    checkpoint = checkpoint_of(name, config).model_copy(update={"dtype": dtype})
    models = config.models.model_copy(update={key: checkpoint})
    return config.model_copy(update={"models": models})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=399)
    args = parser.parse_args()
    config = load_config()
    test = read_table("data/test.csv", ["image_path", "question"]).head(args.rows)
    with open_archive(config.data.raw) as archive:
        pictures = {path: archive.image(path) for path in sorted(set(test["image_path"]))}
    images = [pictures[path] for path in test["image_path"]]
    questions = test["question"].tolist()
    print(f"share of {len(test)} answers equal to float32's ({config.profile})")
    print(f"{'model':12}{'bfloat16':>10}{'float16':>10}")
    for name in MODELS:
        candidates = candidates_for(name, config)
        options = {} if candidates is None else {"candidates": candidates}
        predictions = {}
        for dtype in ("float32", "bfloat16", "float16"):
            model = load_model(name, with_dtype(config, name, dtype), **options)
            predictions[dtype] = [answer.text for answer in model.answer(images, questions)]
        shares = [
            sum(a == b for a, b in zip(predictions["float32"], predictions[d], strict=True))
            / len(test)
            for d in ("bfloat16", "float16")
        ]
        print(f"{name:12}{shares[0]:10.1%}{shares[1]:10.1%}")
    blip = load_model("blip", config)
    paths = sorted(pictures)
    encoded = blip.encode_images([pictures[path] for path in paths])
    image_index = [paths.index(path) for path in test["image_path"]]
    exact = [a.text for a in blip.predict_answers(encoded, image_index, questions)]
    shares = []
    for dtype in ("bfloat16", "float16"):
        stored = torch.from_numpy(to_array(encoded, dtype)).view(getattr(torch, dtype))
        answers = [a.text for a in blip.predict_answers(stored, image_index, questions)]
        shares.append(sum(a == b for a, b in zip(answers, exact, strict=True)) / len(test))
    print(f"{'blip, stored':12}{shares[0]:10.1%}{shares[1]:10.1%}  (float32 weights)")


if __name__ == "__main__":
    main()
