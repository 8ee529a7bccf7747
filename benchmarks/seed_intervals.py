"""How often intervals for images and seeds are right, against the plain ways.

    python benchmarks/seed_intervals.py

Simulated answers to three questions an image, with known true accuracy. `luck` is how much the
seeds differ beyond what their answers to these images do, in points of accuracy. Coverage: share of
95% intervals that hold the true mean. False alarms: how often two equal settings, one trained with
some seeds and the other once, are told apart at the level 5%.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from abo_vqa.evaluation.seed_variance import (
    ReplicatedScores,
    difference_estimate,
    images_estimate,
    mean_estimate,
)

IMAGE_SD, ANSWER_SD = 0.8, 1.1


def simulate(rng, images: int, seeds: int, luck: float):
    clusters = np.repeat(np.arange(images), 3)
    latent = 0.5 + rng.normal(0, IMAGE_SD, images)[clusters][:, None] + rng.normal(0, luck, seeds)
    noise = rng.normal(0, ANSWER_SD, (len(clusters), seeds))
    return (latent + noise > 0).astype(float), clusters


def pigeonhole(rng, scores, clusters, resamples: int):
    """The percentile bootstrap that resamples images and seeds (Owen, 2007)."""
    images, seeds = int(clusters.max()) + 1, scores.shape[1]
    sums = np.zeros((images, seeds))
    np.add.at(sums, clusters, scores)
    drawn_images = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    rows = (drawn_images @ np.bincount(clusters)) * seeds
    return np.quantile(((drawn_images @ sums) * drawn_seeds).sum(1) / rows, [0.025, 0.975])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=134, help="as in the sample's test")
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=400, help="of the bootstrap")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print("luck  seeds  coverage: images  bootstrap  ours   false alarms: images  ours")
    for luck in (0.0, 0.05, 0.1, 0.2):
        spread = np.sqrt(IMAGE_SD**2 + luck**2 + ANSWER_SD**2)
        truth, points = norm.cdf(0.5 / spread), 100 * luck * norm.pdf(0.5 / spread) / spread
        for seeds in (2, 3, 5, 10):
            hits = np.zeros(5)
            for _ in range(args.repeats):
                scores, clusters = simulate(rng, args.images, seeds + 1, luck)
                several = ReplicatedScores.from_scores(scores[:, :seeds], clusters)
                alone = ReplicatedScores.from_scores(scores[:, seeds:], clusters)
                images, ours = images_estimate(several, 0.95), mean_estimate(several, 0.95)
                low, high = pigeonhole(rng, scores[:, :seeds], clusters, args.resamples)
                plain = ReplicatedScores(several.mean, several.accuracies, several.influence, None)
                hits += (
                    images.low <= truth <= images.high,
                    low <= truth <= high,
                    ours.low <= truth <= ours.high,
                    difference_estimate(plain, alone, 0.95).p < 0.05,
                    difference_estimate(several, alone, 0.95, several.variance).p < 0.05,
                )
            a, b, c, d, e = hits / args.repeats
            print(f"{points:4.1f}  {seeds:5}  {a:16.1%}  {b:9.1%}  {c:5.1%}  {d:21.1%}  {e:4.1%}")


if __name__ == "__main__":
    main()
