"""Perceptual hashes, and a table of questions, of a catalogue of any size; made up from a seed.

A DCT hash of 64 bits has 32 of them set, because its threshold is the median. Some frequencies are
set in most images, others in few (in 34,680 distinct hashes of real images: from 12% to 100%).
Images come in looks: most stand alone, some have hundreds of near copies, whose hashes differ in 0
to 6 bits. The sizes of looks don't depend on the catalogue's, so pairs grow with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from abo_vqa.core.tables import TableWriter

LARGEST_LOOK = 300  # images
TILT = 1.0  # standard deviation of a bit's log-odds; 0 sets all alike
STEP = 100_000  # hashes drawn at a time
SWAPS = (0, 0, 1, 2, 3)  # pairs of bits that a copy exchanges, equally likely: 0 to 6 bits
ANSWERS = ("black", "white", "yes", "no", "wood", "round", "None", "2", "metal", "floral, red")


def catalogue_hashes(count: int, seed: int = 0) -> NDArray[np.uint64]:
    """[count] hashes in random order, about a third of which are another image's as well."""
    rng = np.random.default_rng(seed)
    tilt = rng.normal(0, TILT, 64)
    sizes = np.minimum(LARGEST_LOOK, 1 + rng.pareto(1.3, count)).astype(np.int64)
    looks = int(np.searchsorted(np.cumsum(sizes), count)) + 1
    drawn = np.concatenate([balanced_bits(rng, tilt, size) for size in steps(looks)])
    first = np.repeat(np.arange(looks), sizes[:looks])[:count]
    hashes = [exchanged(rng, drawn[part]) for part in np.array_split(first, count // STEP + 1)]
    result: NDArray[np.uint64] = rng.permutation(np.concatenate(hashes))
    return result


def catalogue_vectors(count: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """[count, width] vectors of unit length, spread like a vision model's.

    They lie in a cone, in one of many topics each, and vary more in some directions than in others.
    A third of them is near another image's, at a cosine from 0.8 to 0.999.
    """
    rng = np.random.default_rng(seed)
    scale = (1 / np.sqrt(1 + np.arange(width) / 8)).astype(np.float32)
    topics = 1.2 * rng.standard_normal(width, np.float32)
    topics = topics + rng.standard_normal((max(8, count // 200), width), np.float32)
    vectors = np.empty((count, width), np.float32)
    firsts = count - count // 3
    for part, size in spans(0, firsts):
        noise = 0.7 * rng.standard_normal((size, width), np.float32)
        vectors[part] = topics[rng.integers(0, len(topics), size)] + noise
    for part, size in spans(firsts, count):
        noise = rng.uniform(0.02, 0.6, (size, 1)) * rng.standard_normal((size, width), np.float32)
        vectors[part] = vectors[rng.integers(0, firsts, size)] + noise
    vectors *= scale
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def spans(first: int, end: int) -> Iterator[tuple[slice, int]]:
    """The rows from `first` to `end` in steps that fit into memory."""
    for start in range(first, end, STEP):
        stop = min(start + STEP, end)
        yield slice(start, stop), stop - start


def steps(count: int) -> Iterator[int]:
    """`count` in steps that fit into memory."""
    for start in range(0, count, STEP):
        yield min(STEP, count - start)


def balanced_bits(
    rng: np.random.Generator, tilt: NDArray[np.float64], count: int
) -> NDArray[np.uint64]:
    """[count] hashes with 32 bits set, drawn by their weights (Gumbel's trick)."""
    order = np.argpartition(rng.gumbel(size=(count, 64)) + tilt, 32, axis=1)[:, 32:]
    return np.bitwise_or.reduce(np.uint64(1) << order.astype(np.uint64), axis=1)


def exchanged(rng: np.random.Generator, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes with up to three pairs of a set and a clear bit exchanged."""
    swaps = rng.choice(SWAPS, len(hashes))
    for number in range(max(SWAPS)):
        one, other = (np.uint64(1) << b for b in rng.integers(0, 64, (2, len(hashes)), np.uint64))
        differ = ((hashes & one) == 0) != ((hashes & other) == 0)  # else nothing is exchanged
        hashes = np.where((swaps > number) & differ, hashes ^ one ^ other, hashes)
    return hashes


def write_questions(path: Path, rows: int, images: int, seed: int = 0) -> None:
    """Write a table like data/vqa.csv; two products in five share an item id with another image."""
    with TableWriter(path) as writer:
        for piece in questions(rows, images, seed):
            writer.write(piece)


def questions(rows: int, images: int, seed: int) -> Iterator[pd.DataFrame]:
    """The rows in pieces, in the order of their images."""
    rng = np.random.default_rng(seed)
    hashes = catalogue_hashes(images, seed)
    products = np.minimum(np.arange(images), rng.integers(0, int(images * 2.5), images))
    types = np.minimum(rng.zipf(1.3, images), 576)
    digests = rng.integers(0, 2**63, (images, 2), dtype=np.uint64)
    every = np.sort(rng.integers(0, images, rows))  # about three questions an image
    for at in np.array_split(every, rows // STEP + 1):
        answers = np.array(ANSWERS, dtype=object)[rng.integers(0, len(ANSWERS), len(at))]
        details = rng.integers(0, 20_000, len(at))
        columns = {
            "image_path": [f"{i % 256:02x}/{i:08x}.jpg" for i in at],
            "question": [f"What is detail {n} of the product in the image?" for n in details],
            "answer": answers,
            "image_id": [f"{i:08x}GL" for i in at],
            "item_id": [f"B{products[i]:09d}" for i in at],
            "product_type": [f"TYPE_{types[i]}" for i in at],
            "image_sha1": [f"{a:016x}{b:016x}{a % 2**32:08x}" for a, b in digests[at].tolist()],
            "phash": [f"{h:016x}" for h in hashes[at].tolist()],
            "question_kind": "detail",
            "annotator": "offline",
            "answer_blip": answers[::-1],
            "answer_blind": "no",
            "agreement": "0",
        }
        yield pd.DataFrame(columns, dtype=object)
