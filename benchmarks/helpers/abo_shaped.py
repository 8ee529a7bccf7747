"""Archives of the real size and shape, with made-up content, for benchmarks and scale tests.

Amazon Berkeley Objects has 147,702 listings in 16 shards, about 3 KB of JSON each, and 398,212
pictures of about 8 KB. Values here are drawn from small word lists; fields, their nesting, the
number of entries and languages are the real ones. Everything follows from a seed.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

LISTINGS, IMAGES, TYPES = 147_702, 398_212, 576
LANGUAGES = (
    "en_US",
    "en_GB",
    "en_IN",
    "en_AE",
    "en_CA",
    "de_DE",
    "es_MX",
    "fr_FR",
    "ja_JP",
    "he_IL",
)
WEIGHTS = (30, 8, 30, 3, 4, 9, 5, 5, 3, 3)
SYLLABLES = ("ka", "ro", "ti", "lum", "ven", "sa", "dor", "mel", "pi", "qua", "sto", "bri")
EXCLUDED = ("518Dk4F0zZL", "719hoe+0vIL", "71Qbh8wmhnL")


def words(rng: random.Random, n: int) -> list[str]:
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(n)]


class Shop:
    """Draws listings; `images` are the ids and paths they may show."""

    def __init__(self, seed: int, images: list[tuple[str, str]]) -> None:
        self.rng = random.Random(seed)
        self.images = images
        self.words = words(self.rng, 4000)
        self.colors = [w.capitalize() for w in words(self.rng, 300)]
        self.types = [w.upper() for w in words(self.rng, TYPES)]
        # One type far ahead of the others, as phone cases are.
        self.type_weights = [1 / (rank + 1) ** 1.1 for rank in range(TYPES)]
        self.type_weights[0] = 5.0

    def phrase(self, low: int, high: int) -> str:
        return " ".join(self.rng.choices(self.words, k=self.rng.randint(low, high)))

    def tagged(self, language: str, value: str) -> list[dict[str, Any]]:
        return [{"language_tag": language, "value": value}]

    def listing(self) -> dict[str, Any]:
        r = self.rng
        tag = r.choices(LANGUAGES, WEIGHTS)[0]
        name = self.phrase(6, 18)
        if r.random() < 0.08:
            name += " – 商品"
        entry: dict[str, Any] = {
            "brand": self.tagged(tag, self.phrase(1, 2)),
            "bullet_point": [e for _ in range(5) for e in self.tagged(tag, self.phrase(8, 25))],
            "color": [
                {
                    "language_tag": tag,
                    "value": (c := r.choice(self.colors)),
                    "standardized_values": [c],
                }
            ],
            "item_id": f"B{r.randrange(36**5):09d}",
            "item_name": self.tagged(tag, name),
            "item_weight": [
                {
                    "normalized_value": {"unit": "pounds", "value": 1.5},
                    "unit": "pounds",
                    "value": 1.5,
                }
            ],
            "item_dimensions": {
                axis: {
                    "normalized_value": {"unit": "inches", "value": 9.8},
                    "unit": "inches",
                    "value": 9.8,
                }
                for axis in ("height", "length", "width")
            },
            "model_name": self.tagged(tag, self.phrase(1, 3)),
            "model_number": [{"value": f"{r.randrange(10**6)}"}],
            "product_type": [{"value": r.choices(self.types, self.type_weights)[0]}],
            "style": self.tagged(tag, self.phrase(1, 2)),
            "main_image_id": r.choice(self.images)[0],
            "other_image_id": [r.choice(self.images)[0] for _ in range(r.randint(0, 6))],
            "item_keywords": [
                e for _ in range(r.randint(5, 30)) for e in self.tagged(tag, self.phrase(1, 3))
            ],
            "country": tag[-2:],
            "marketplace": "Amazon",
            "domain_name": "amazon.com",
            "node": [
                {"node_id": r.randrange(10**9), "node_name": "/Categories/" + self.phrase(2, 4)}
            ],
        }
        self._vary(entry, tag)
        return entry

    def _vary(self, entry: dict[str, Any], tag: str) -> None:
        """Add and leave out fields as often as ABO does."""
        r = self.rng
        for name, share in (
            ("material", 0.4),
            ("pattern", 0.1),
            ("item_shape", 0.1),
            ("finish_type", 0.1),
        ):
            if r.random() < share:
                entry[name] = self.tagged(tag, self.phrase(1, 1))
        for name, share in (("color", 0.1), ("item_keywords", 0.15), ("main_image_id", 0.003)):
            if r.random() < share:
                del entry[name]
        if r.random() < 0.05:  # the same in a second language, behind or in front
            second = self.tagged("en_US", self.phrase(6, 18))
            entry["item_name"] = r.choice(
                (second + entry["item_name"], entry["item_name"] + second)
            )


def image_ids(count: int, seed: int) -> list[tuple[str, str]]:
    """(image id, path) of every picture."""
    rng = random.Random(seed)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
    names = [f"{i:08x}" for i in rng.sample(range(16**8), count)]
    ids = [
        *EXCLUDED,
        *(f"{rng.randint(51, 91)}{''.join(rng.choices(letters, k=8))}L" for _ in names),
    ]
    return [(i, f"{n[:2]}/{n}.jpg") for i, n in zip(ids, names, strict=False)]


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_listings(folder: Path, count: int, images: list[tuple[str, str]], seed: int = 0) -> None:
    """abo-listings.tar with `count` listings in 16 shards."""
    folder.mkdir(parents=True, exist_ok=True)
    shop = Shop(seed, images)
    with tarfile.open(folder / "abo-listings.tar", "w") as tar:
        for shard in tqdm(range(16), desc="listings", unit="shard"):
            n = count // 16 + (shard < count % 16)
            text = "".join(json.dumps(shop.listing(), ensure_ascii=False) + "\n" for _ in range(n))
            name = f"listings/metadata/listings_{shard:x}.json.gz"
            add(tar, name, gzip.compress(text.encode(), 6, mtime=0))


def write_images(
    folder: Path, images: list[tuple[str, str]], mean_bytes: int, seed: int = 0
) -> None:
    """abo-images-small.tar: the table, and noise of `mean_bytes` on average for each picture."""
    rng = random.Random(seed)
    noise = rng.randbytes(1 << 20)

    def some(path: str) -> bytes:
        size = int(mean_bytes * rng.uniform(0.2, 1.8))
        start = rng.randrange(len(noise) - size) if size else 0
        return noise[start : start + size]

    write_pictures(folder, images, some)


def write_photographs(folder: Path, images: list[tuple[str, str]], seed: int = 0) -> None:
    """abo-images-small.tar with JPEGs that can be decoded: smooth noise of 256 x 256 pixels."""
    from helpers.real_size import photographs

    made = iter(photographs(len(images), seed))

    def next_one(path: str) -> bytes:
        buffer = io.BytesIO()
        next(made).save(buffer, "JPEG", quality=85)
        return buffer.getvalue()

    write_pictures(folder, images, next_one)


def write_pictures(
    folder: Path,
    images: list[tuple[str, str]],
    content: Callable[[str], bytes],
    paths: Iterable[str] | None = None,
) -> None:
    """abo-images-small.tar: the table, and what `content` gives for each path, in their order.

    `paths` are those of the pictures that the archive holds; None for all of the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = "image_id,height,width,path\n" + "".join(f"{i},256,256,{p}\n" for i, p in images)
    with tarfile.open(folder / "abo-images-small.tar", "w") as tar:
        add(tar, "images/metadata/images.csv.gz", gzip.compress(table.encode(), 6, mtime=0))
        paths = [path for _, path in images] if paths is None else paths
        for path in tqdm(sorted(paths), desc="pictures", unit="image"):
            add(tar, f"images/small/{path}", content(path))
