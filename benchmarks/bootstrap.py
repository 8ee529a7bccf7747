"""10,000 bootstrap resamples over images, against a resample at a time.

    python benchmarks/bootstrap.py

9,109 rows of 2,956 images, 7 models × 12 metrics, made up. The plain way draws images and averages
their rows, one resample after the other; it is measured on a few resamples and scaled up.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from abo_vqa.evaluation.intervals import bootstrap_means, percentile_interval

ROWS, IMAGES, COLUMNS = 9_109, 2_956, 7 * 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--plain", type=int, default=50, help="resamples of the plain way")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    values = (rng.random((ROWS, COLUMNS)) < 0.5).astype(float)
    clusters = np.sort(np.concatenate([np.arange(IMAGES), rng.integers(0, IMAGES, ROWS - IMAGES)]))
    members = np.split(np.arange(ROWS), np.cumsum(np.bincount(clusters))[:-1])

    start = time.perf_counter()
    drawn = np.random.default_rng(42).integers(0, IMAGES, size=(args.plain, IMAGES))
    plain = [values[np.concatenate([members[i] for i in row])].mean(0) for row in drawn]
    each = (time.perf_counter() - start) / args.plain

    start = time.perf_counter()
    means = bootstrap_means(values, clusters, args.resamples, 42)
    percentile_interval(means, 0.95)
    ours = time.perf_counter() - start
    assert np.allclose(plain, means[: args.plain]), "not the same resampled means"
    print(f"{args.resamples} resamples: {ours:.2f} s; one at a time {each * args.resamples:.1f} s "
          f"(from {args.plain}): {each * args.resamples / ours:.0f}×, equal values")  # fmt: skip


if __name__ == "__main__":
    main()
