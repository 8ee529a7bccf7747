"""The bootstrap and the permutation test of more and more images: processor time for each image.

    python benchmarks/resampling_scale.py                  # 50,000, 100,000 and 200,000 images
    python benchmarks/resampling_scale.py --images 3000 --resamples 1000

Three made-up rows an image and six models. Slices are as many and as large as the evaluation's:
nine columns, one of them 200 product types. Rows are made before the clock starts; adding them up
within images is measured with the rest.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from helpers.study_questions import zipf

from abo_vqa.core.stage import pin_threads
from abo_vqa.evaluation.intervals import bootstrap_means, bootstrap_slice_means, bootstrap_totals
from abo_vqa.evaluation.significance import permutation_p

MODELS, METRICS, PER_IMAGE = 6, 12, 3
# A column's number of values, and how uneven they are: the exponent of Zipf's law.
VALUES = ((5, 1.0), (20, 1.0), (4, 1.0), (2, 4.0), (6, 0.5), (1, 1.0), (2, 0.0), (2, 1.0))
TYPES = 200


def slices(rng: np.random.Generator, rows: int) -> list[np.ndarray]:
    """The rows of each value of each column."""
    columns = [rng.choice(n, rows, p=zipf(n, exponent)) for n, exponent in VALUES]
    types = rng.choice(TYPES, -(-rows // PER_IMAGE), p=zipf(TYPES, 1.0))
    columns.append(np.repeat(types, PER_IMAGE)[:rows])
    return [np.flatnonzero(column == value) for column in columns for value in np.unique(column)]


def calls(images: int, resamples: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    rng = np.random.default_rng(0)
    rows, clusters = images * PER_IMAGE, np.repeat(np.arange(images), PER_IMAGE)
    correct = (rng.random((rows, MODELS)) < 0.4).astype(float)
    scores = [np.where(rng.random(rows) < 0.001, np.nan, rng.random(rows))
              for _ in range(MODELS * METRICS)]  # fmt: skip
    differences = np.column_stack([correct[:, a] - correct[:, b]
                                   for a in range(MODELS) for b in range(a)])  # fmt: skip
    inside = slices(rng, rows)
    last = (clusters, resamples, 42)
    return {
        f"means of {len(scores)} columns": partial(bootstrap_means, scores, *last),
        f"means of {differences.shape[1]} differences": partial(
            bootstrap_means, differences, *last
        ),
        f"signs of {differences.shape[1]} differences": partial(permutation_p, differences, *last),
        f"means of {MODELS} models in {len(inside)} slices": partial(
            bootstrap_slice_means, correct, inside, *last
        ),
        f"totals of {MODELS} columns": partial(bootstrap_totals, correct[:images], *last[1:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[50_000, 100_000, 200_000])
    parser.add_argument("--resamples", type=int, default=1000, help="the study has 10,000")
    args = parser.parse_args()
    pin_threads(1)
    first: list[float] = []
    for images in args.images:
        print(f"{images:,} images")
        for i, (name, call) in enumerate(calls(images, args.resamples).items()):
            start = time.process_time()
            call()
            used = time.process_time() - start
            each = used / images / args.resamples * 1e9
            first += [each] if i == len(first) else []
            print(f"  {name:31} {used:6.2f} processor seconds, {each:5.1f} ns an image and "
                  f"resample, {each / first[i]:.2f} times the first", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
