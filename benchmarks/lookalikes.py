"""How well near-duplicates are told from other images, by hashes and by models' vectors.

    dvc repro generate
    abo-vqa vectors --model blip && abo-vqa vectors --model clip
    PYTHONPATH=tools python benchmarks/lookalikes.py      # the sample, whose truth is known
    python benchmarks/lookalikes.py --same item_id        # any catalogue
    python benchmarks/lookalikes.py --cost 20000          # processor seconds, vectors and hashes
    python benchmarks/lookalikes.py --search 1000000      # hashes by the million, and their recall
    python benchmarks/lookalikes.py --search-vectors 200000

Pairs of images are known to be the same by the sample's generator: those of one drawing (compressed
again, moved, or the same file), and those of one product (other poses and light as well). Without
it, by a column of the balanced table. A pair counts as found if its images are alike. 95% intervals
are Wilson's, of pairs. The last table chooses each threshold on one half of the products and
measures it on the other. Groups by variant: variants.py. --search and --search-vectors make hashes
or vectors up (see helpers/large_catalogue.py), a quarter, half and all of so many, and compare all
pairs of 100,000 as well.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from helpers.large_catalogue import catalogue_hashes, catalogue_vectors
from helpers.shares import share
from scipy.sparse import coo_matrix, csr_matrix, eye_array

from abo_vqa.core.config import load_config
from abo_vqa.core.paths import BALANCED, VECTORS
from abo_vqa.core.stage import pin_threads
from abo_vqa.core.tables import read_table
from abo_vqa.data import vector_search
from abo_vqa.data.hash_search import SearchPart, close_pairs, plan_search, search_part
from abo_vqa.data.hashes import hash_graph
from abo_vqa.data.image_vectors import ImageVectors, read_image_vectors, vector_graph
from abo_vqa.data.similarity import SimilarityGraph, unite_graphs

DISTANCES = (0, 2, 4, 6, 8)
COSINES = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99)
SEED = 7  # of the sample
RECALLED = 100_000  # hashes all of whose pairs are compared, to tell what the search misses
Graph = Callable[[pd.DataFrame], SimilarityGraph]


def sample_truth(paths: pd.Series) -> dict[str, np.ndarray]:
    """Which drawing, and which product, each of the sample's images shows."""
    from sample.dirt import draw_catalogue

    looks = {picture.path: picture.look for picture in draw_catalogue(SEED).pictures}
    return {
        "the same drawing": pd.factorize(paths.map(looks))[0],
        "the same product": pd.factorize(paths.map(lambda p: replace(looks[p], view_seed=0)))[0],
    }


def pair_counts(graph: SimilarityGraph, same: np.ndarray) -> tuple[int, int, int]:
    """How many pairs are alike, how many of these are the same, and how many pairs are the same."""
    known = np.flatnonzero(graph.nodes >= 0)
    shape = (int(same.max()) + 1, graph.adjacency.shape[0])
    entries = (np.ones(len(known), dtype=np.int64), (same[known], graph.nodes[known]))
    owners = csr_matrix(coo_matrix(entries, shape=shape))
    near = owners @ graph.adjacency.astype(np.int64)
    alike = int(
        (np.asarray(owners.sum(axis=0)).ravel() * np.asarray(near.sum(axis=0)).ravel()).sum()
    )
    right = int(owners.multiply(near).sum())
    sizes = np.bincount(same)
    itself = len(known)
    return (alike - itself) // 2, (right - itself) // 2, int((sizes * (sizes - 1)).sum()) // 2


def equal_values(values: pd.Series) -> SimilarityGraph:
    """Images are alike if a column has the same value, which isn't empty."""
    codes, names = pd.factorize(values)
    codes = np.where((values == "").to_numpy(), -1, codes)
    return SimilarityGraph(codes, csr_matrix(eye_array(len(names), dtype=np.int32)))


def measures(
    table: pd.DataFrame, vectors: dict[str, ImageVectors]
) -> Iterator[tuple[str, SimilarityGraph]]:
    """Every way of comparing, with its name."""
    hashes = {bits: hash_graph(table["phash"], bits) for bits in DISTANCES}
    for bits, graph in hashes.items():
        yield f"hash, {bits} bits", graph
    item = equal_values(table["item_id"])
    for name, known in vectors.items():
        for cosine in COSINES:
            yield f"{name}, cosine {cosine:g}", vector_graph(table["image_path"], known, cosine)
        best = vector_graph(table["image_path"], known, 0.95)
        for bits in (0, 4):
            either = [hashes[bits], best]
            yield f"hash, {bits} bits, or {name}, 0.95", unite_graphs(either)
            yield f"that, or item id ({name}, {bits} bits)", unite_graphs([*either, item])
    yield "item id", item
    yield "hash, 4 bits, or item id", unite_graphs([hashes[4], item])


def print_accuracy(
    table: pd.DataFrame, truths: dict[str, np.ndarray], vectors: dict[str, ImageVectors]
) -> None:
    print(f"{len(table):,} images\n\n| alike | pairs | " + " | ".join(
        f"{name}: precision | recall" for name in truths) + " |")  # fmt: skip
    print("|---|---|" + "---|---|" * len(truths))
    for name, graph in measures(table, vectors):
        cells = []
        for same in truths.values():
            alike, right, every = pair_counts(graph, same)
            cells += [share(right, alike), share(right, every)]
        print(f"| {name} | {alike:,} | " + " | ".join(cells) + " |")


def halves(same_product: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """[n], [n] the rows of either half of the products, both ways round."""
    count = int(same_product.max()) + 1
    first = np.random.default_rng(SEED).permutation(count)[: count // 2]
    mask = np.isin(same_product, first)
    yield mask, ~mask
    yield ~mask, mask


def half_counts(
    graph: Graph, same: np.ndarray, mask: np.ndarray, table: pd.DataFrame
) -> tuple[int, int, int]:
    """`pair_counts` among some of the rows."""
    rows = table[mask].reset_index(drop=True)
    return pair_counts(graph(rows), pd.factorize(same[mask])[0])


def print_chosen(
    table: pd.DataFrame, truths: dict[str, np.ndarray], vectors: dict[str, ImageVectors]
) -> None:
    """Choose thresholds by F1 on one half of the products; print their accuracy on the other.

    Pairs of images from both halves are left out. The two ways round are added up.
    """
    print("\n| measure | truth | chosen | precision | recall |\n|---|---|---|---|---|")
    *_, products = truths.values()  # coarser than drawings
    for measure, thresholds in by_threshold(vectors).items():
        for truth, same in truths.items():
            chosen, total = [], np.zeros(3, dtype=int)
            for here, there in halves(products):
                scores = {name: f1(*half_counts(graph, same, here, table))
                          for name, graph in thresholds.items()}  # fmt: skip
                chosen.append(max(scores, key=lambda name: scores[name]))
                total += half_counts(thresholds[chosen[-1]], same, there, table)
            alike, right, every = map(int, total)
            both = " and ".join(chosen)
            print(
                f"| {measure} | {truth} | {both} | {share(right, alike)} | {share(right, every)} |"
            )


def by_threshold(vectors: dict[str, ImageVectors]) -> dict[str, dict[str, Graph]]:
    """Measure → threshold → how to compare a table's images by it."""
    hashes = {f"{bits} bits": partial(hashes_within, bits) for bits in DISTANCES}
    return {"hash": hashes} | {
        name: {f"{cosine:g}": partial(vectors_within, known, cosine) for cosine in COSINES}
        for name, known in vectors.items()
    }


def hashes_within(bits: int, table: pd.DataFrame) -> SimilarityGraph:
    return hash_graph(table["phash"], bits)


def vectors_within(known: ImageVectors, cosine: float, table: pd.DataFrame) -> SimilarityGraph:
    return vector_graph(table["image_path"], known, cosine)


def f1(alike: int, right: int, every: int) -> float:
    """The harmonic mean of precision and recall."""
    return 2 * right / max(1, alike + every)


def print_cost(count: int, width: int) -> None:
    """Processor seconds of comparing random images, by vectors and by hashes."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, width), dtype=np.float32)
    paths = [f"{i:06d}.jpg" for i in range(count)]
    known = ImageVectors.of(paths, vectors)
    start = time.process_time()
    graph = vector_graph(pd.Series(paths, dtype=object), known, 0.95)
    by_vectors = time.process_time() - start
    assert graph.adjacency.nnz == count  # random vectors are alike to themselves alone
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    start = time.process_time()
    sum(len(i) for i, _ in close_pairs(hashes, 4))
    by_hashes = time.process_time() - start
    print(f"{count:,} images: {by_vectors:.1f} s by vectors of width {width}, {by_hashes:.1f} s by "
          f"hashes, {by_vectors / by_hashes:.1f} times as much")  # fmt: skip


def print_search(count: int, distance: int) -> None:
    """Processor seconds and peak memory of the search at three sizes, and its recall on a part."""
    print(
        "| hashes | distinct | tables | key, bits | pairs | CPU s | to the smallest, per hash | "
        "peak memory, MB |\n|---|---|---|---|---|---|---|---|"
    )
    smallest = 0.0
    for size in (count // 4, count // 2, count):
        distinct = np.unique(catalogue_hashes(size))
        start = time.process_time()
        plan = plan_search(distinct, distance)
        pairs = sum(len(search_part(distinct, table)[0]) for table in plan)
        spent = time.process_time() - start
        smallest = smallest or spent / size
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"| {size:,} | {len(distinct):,} | {len(plan)} | {plan[0].key.bit_count()} | "
            f"{pairs:,} | {spent:.2f} | {spent / size / smallest:.2f} | {peak:,} |"
        )
    part = np.unique(catalogue_hashes(min(count, RECALLED), SEED))
    start = time.process_time()
    every = pair_set([search_part(part, SearchPart(distance, 0))])
    spent = time.process_time() - start
    tables = pair_set(search_part(part, table) for table in plan)
    print(
        f"\nall pairs of {len(part):,} compared: {spent:.1f} CPU s, {len(every):,} pairs, of which "
        f"those tables find {len(every & tables) / max(1, len(every)):.2%}, and "
        f"{len(tables - every):,} others"
    )


def print_vector_search(count: int, width: int) -> None:
    """Processor seconds and peak memory of vectors' search, and its recall on a part."""
    print("| images | pivots | pairs | CPU s | to the smallest, per image | peak memory, MB |\n"
          "|---|---|---|---|---|---|")  # fmt: skip
    smallest = 0.0
    for size in (count // 4, count // 2, count):
        vectors = catalogue_vectors(size, width)
        start = time.process_time()
        pairs = sum(len(i) for i, _ in vector_search.alike_vectors(vectors, 0.95))
        spent = time.process_time() - start
        smallest = smallest or spent / size
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        pivots = len(vector_search.draw_pivots(size)) if size > vector_search.EXHAUSTIVE else 0
        print(f"| {size:,} | {pivots:,} | {pairs:,} | {spent:.1f} | "
              f"{spent / size / smallest:.2f} | {peak:,} |", flush=True)  # fmt: skip
    vectors = catalogue_vectors(min(count, RECALLED), width, SEED)
    for cosine in (0.85, 0.9, 0.95):
        chosen = pair_set(vector_search.alike_vectors(vectors, cosine))
        start = time.process_time()
        every = pair_set(vector_search.compare_all(vectors, cosine))
        spent = time.process_time() - start
        print(f"\ncosine {cosine}, all pairs of {len(vectors):,} compared: {spent:.1f} CPU s, "
              f"{len(every):,} pairs, of which the search finds "
              f"{len(every & chosen) / max(1, len(every)):.2%}, and "
              f"{len(chosen - every):,} others")  # fmt: skip


def pair_set(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> set[tuple[int, int]]:
    """Pairs as a set, the smaller position first."""
    both = [np.sort(np.stack(pairs), axis=0).T.tolist() for pairs in parts]
    return {(first, second) for pairs in both for first, second in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--balanced", type=Path, default=BALANCED)
    parser.add_argument("--same", help="the column that tells which images are the same")
    parser.add_argument("--cost", type=int, help="measure this with so many random images instead")
    parser.add_argument("--search", type=int, help="search so many made-up hashes instead")
    parser.add_argument("--search-vectors", type=int, help="search so many made-up vectors instead")
    parser.add_argument("--distance", type=int, default=4, help="bits, for --search")
    parser.add_argument("--width", type=int, default=768)
    args = parser.parse_args()
    pin_threads(load_config().threads)
    if args.cost:
        print_cost(args.cost, args.width)
        return
    if args.search:
        print_search(args.search, args.distance)
        return
    if args.search_vectors:
        print_vector_search(args.search_vectors, args.width)
        return
    table = read_table(args.balanced, ("image_path", "item_id", "phash"))
    truths = sample_truth(table["image_path"]) if not args.same else {
        f"the same {args.same}": pd.factorize(
            table[args.same].where(table[args.same] != "", table["image_path"])
        )[0]
    }  # fmt: skip
    folders = sorted(path for path in VECTORS.glob("*") if path.is_dir())
    vectors = {folder.name: read_image_vectors(folder) for folder in folders}
    print_accuracy(table, truths, vectors)
    print_chosen(table, truths, vectors)


if __name__ == "__main__":
    main()
