"""How well `split.group: variant` finds a product's other colours and marketplaces.

    PYTHONPATH=tools python benchmarks/variants.py

The sample has no colour variants, so products are drawn as its generator draws them, each four
times: itself; in another pose, under the same item id; in another colour, and in another market
(moved by a pixel or two and compressed again), both under ids of their own. Names are the
generator's, too: a product's listings have the same words but for the colour, and products of one
brand and type may have the same name. Prints how many bits the hashes differ by, of drawings with
which the distance for variants was chosen, and precision and recall of groups, of other drawings.
95% intervals are Wilson's, of pairs.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from helpers.shares import share
from sample.archives import jpeg
from sample.catalogue import Draw, Picture
from sample.studio import SAMPLE_PALETTE
from sample.words import BRANDS, KINDS

from abo_vqa.data.groups import group_rows
from abo_vqa.data.hashes import hash_bits
from abo_vqa.data.image_decoding import phash
from abo_vqa.data.similarity_rule import SimilarityRule
from abo_vqa.data.variants import name_without_color

CHOSEN_WITH, MEASURED_WITH = 7, 8  # seeds
ITSELF, POSE, COLOR, MARKET = "itself", "another pose", "another colour", "another marketplace"


def draw_products(count: int, seed: int) -> pd.DataFrame:
    """A row an image: what groups are made from, its product's number and its version."""
    draw = Draw(seed)
    rows = [row for i in range(count) for row in listings(draw, i)]
    names = ["product", "version", "image_path", "item_id", "product_type", "name", "color",
             "image_sha1", "phash"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def listings(draw: Draw, number: int) -> Iterator[tuple[object, ...]]:
    """Four listings of one product."""
    r, kind = draw.random, list(KINDS)[number % len(KINDS)]
    look, brand = draw.look(kind), r.choice(BRANDS)
    other = replace(look, color=r.choice([c for c in SAMPLE_PALETTE if c != look.color]))
    moved = {"quality": r.choice((45, 60)), "shift": (r.randint(-2, 2), r.randint(-2, 2))}
    items = {version: draw.item_id() for version in (ITSELF, COLOR, MARKET)}
    words = r.getstate()  # the same ones for all four
    for version, drawn, changes, tag in (
        (ITSELF, look, {}, "en_US"),
        (POSE, draw.another_view(look), {}, "en_US"),
        (COLOR, other, {}, "en_US"),
        (MARKET, look, moved, "en_GB"),
    ):
        r.setstate(words)
        color = draw.color(drawn.color, tag)
        r.setstate(words)
        name = draw.name(drawn, brand, color, tag)
        image = jpeg(Picture("", "", drawn, **changes))
        yield (
            number, version, f"{number}-{version}.jpg", items.get(version, items[ITSELF]), kind,
            name, color, hashlib.sha1(image).hexdigest(), phash(image, "a.jpg"),
        )  # fmt: skip


def print_distances(table: pd.DataFrame) -> None:
    """How many bits images of variants, other poses and other products are apart."""
    hashes = hash_bits(table["phash"])
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    version, product, kind = (table[n].to_numpy() for n in ("version", "product", "product_type"))
    first = (version == ITSELF)[:, None]
    same, kinds = product[:, None] == product, kind[:, None] == kind
    others = np.triu(~same) & np.isin(version, (ITSELF, POSE, COLOR))[:, None]
    print("| an image and | pairs | 5% | median | 95% | at most 8 |\n|---|---|---|---|---|---|")
    for name, pairs in {
        **{f"its product in {v}": first & same & (version == v) for v in (COLOR, MARKET, POSE)},
        "another product of its type": others & kinds,
        "a product of another type": others & ~kinds,
    }.items():
        low, median, high = np.quantile(bits[pairs], (0.05, 0.5, 0.95))
        close = share(int((bits[pairs] <= 8).sum()), int(pairs.sum()))
        print(f"| {name} | {pairs.sum():,} | {low:.0f} | {median:.0f} | {high:.0f} | {close} |")


def print_accuracy(table: pd.DataFrame) -> None:
    """Precision of groups, and recall by what the pair of images differs in."""
    rule, loose = SimilarityRule(4), SimilarityRule(8)
    names = [
        f"{kind} {name_without_color(name, color)}"
        for kind, name, color in zip(
            *(table[n] for n in ("product_type", "name", "color")), strict=True
        )
    ]
    groups = {
        "`product`": group_rows(table, "product", rule),
        "`near-duplicate`": group_rows(table, "near-duplicate", rule),
        "`variant`": group_rows(table, "variant", rule),
        "type and name alone": pd.factorize(np.array(names))[0],
        "images alone, 8 bits": group_rows(table[["image_path", "phash"]], "near-duplicate", loose),
    }
    version, product = table["version"].to_numpy(), table["product"].to_numpy()
    pairs = np.triu(np.ones((len(table), len(table)), dtype=bool), 1)
    same = pairs & (product[:, None] == product)
    wanted = (POSE, COLOR, MARKET)
    recalls = [f"recall: {v}" for v in wanted]
    print(f"\n| groups | pairs | precision | {' | '.join(recalls)} |\n|---|---|---|---|---|---|")
    for name, numbers in groups.items():
        together = pairs & (numbers[:, None] == numbers)
        cells = [share(int((together & same).sum()), int(together.sum()))]
        for v in wanted:
            these = same & (version == ITSELF)[:, None] & (version == v)
            cells.append(share(int((together & these).sum()), int(these.sum())))
        print(f"| {name} | {together.sum():,} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--products", type=int, default=100)
    args = parser.parse_args()
    print_distances(draw_products(args.products, CHOSEN_WITH))
    print_accuracy(draw_products(args.products, MEASURED_WITH))


if __name__ == "__main__":
    main()
