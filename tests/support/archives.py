"""Small ABO-shaped archives for tests: listings as dicts, pictures as bytes."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEADER = "image_id,height,width,path"


def english(value: str, tag: str = "en_US") -> list[dict[str, str]]:
    """A field with one value."""
    return [{"language_tag": tag, "value": value}]


def listing(image: str | None, **changes: Any) -> dict[str, Any]:
    """A listing that passes every rule; `changes` replace fields, None removes one."""
    made: dict[str, Any] = {
        "item_id": f"B{image}",
        "item_name": english(f"Name of {image}"),
        "product_type": [{"value": "LAMP"}],
        "color": english("Red"),
        "item_keywords": [*english("Light"), *english("bulb")],
        "main_image_id": image,
    }
    made |= changes
    return {name: value for name, value in made.items() if value is not None}


def jpeg(seed: int, side: int = 64, quality: int = 90) -> bytes:
    """A picture of random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    picture = Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC)
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def lines(listings: Sequence[Any]) -> bytes:
    """JSON lines; strings and bytes are taken as they are."""
    made = []
    for item in listings:
        if isinstance(item, bytes):
            made.append(item)
        else:
            text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
            made.append(text.encode())
    return b"".join(line + b"\n" for line in made)


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def images_csv(ids: Mapping[str, str]) -> str:
    """The table of {image id: path}."""
    return "\n".join([HEADER, *(f"{i},64,64,{path}" for i, path in ids.items())]) + "\n"


def write_shop(
    raw: Path,
    shards: Mapping[str, Sequence[Any]] | Sequence[Any],
    images: Mapping[str, str] | str,
    pictures: Mapping[str, bytes] | None = None,
) -> Path:
    """Write both archives.

    Args:
        shards: listings by shard ("0".."f"), in the order to put them into the tar; a plain list is
            shard "0".
        images: {image id: path}, or the text of images.csv.
        pictures: {path: bytes}; by default every path has a picture of its own.
    """
    raw.mkdir(parents=True, exist_ok=True)
    shards = shards if isinstance(shards, Mapping) else {"0": shards}
    listings = {
        f"listings/metadata/listings_{digit}.json.gz": gzip.compress(lines(items), mtime=0)
        for digit, items in shards.items()
    }
    write_tar(raw / "abo-listings.tar", listings)
    if pictures is None:
        paths = images.values() if isinstance(images, Mapping) else []
        pictures = {path: jpeg(seed) for seed, path in enumerate(paths)}
    table = images if isinstance(images, str) else images_csv(images)
    files = {"images/metadata/images.csv.gz": gzip.compress(table.encode(), mtime=0)}
    files |= {f"images/small/{path}": data for path, data in pictures.items()}
    write_tar(raw / "abo-images-small.tar", files)
    return raw
