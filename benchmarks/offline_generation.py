"""Memory and processor seconds of `generate` with the offline annotator, by images.

Products as ABO has them, about images that nobody decodes: what is left is the stage itself, from
the balanced table to the four files that it writes. Each size runs in a process of its own; memory
is what no file is behind (RssAnon of Linux), beyond what the process has before it begins.

    python benchmarks/offline_generation.py [--images 100000 200000 400000]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import pandas as pd
from helpers.usage import AnonymousPeak

from abo_vqa.annotate import annotators
from abo_vqa.annotate.offline import COLORS
from abo_vqa.core.config import load_config
from abo_vqa.core.paths import BALANCED, GENERATED, GENERATION, REJECTS, REVIEWED
from abo_vqa.core.tables import TableWriter
from abo_vqa.stages.generate import run

ROOT = Path(__file__).parents[1]
TYPES = ("CELLULAR_PHONE_CASE", "SHOES", "CHAIR", "SOFA", "LAMP", "RUG", "TABLE", "EARRING")
MATERIALS = ("wood", "metal", "leather", "cotton", "glass", "plastic")
PIECE = 50_000


class NoArchive:
    """Has every image, and opens none."""

    def __enter__(self) -> NoArchive:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def image(self, _path: str) -> None:
        pass

    def prefetch(self, _paths: list[str]) -> None:
        pass


def product(number: int) -> dict[str, str]:
    """A row of the balanced table."""
    digest = hashlib.sha1(str(number).encode()).hexdigest()
    kind, color = TYPES[number % 8], COLORS[number % 19]
    return {
        "image_path": f"{digest[:2]}/{digest[:8]}.jpg",
        "name": f"amazon brand - {color} {kind.lower().replace('_', ' ')}, model {number:07d}",
        "product_type": kind.lower(),
        "color": color,
        "keywords": f"{color}, {kind.lower()}, home, {digest[8:16]}",
        "image_id": digest[:11],
        "item_id": f"B{digest[11:20]}",
        "image_sha1": digest,
        "phash": digest[20:36],
        "brand": "Rivet",
        "material": MATERIALS[number % 6],
        "pattern": "solid" if number % 5 else "",
        "item_shape": "",
    }


def write_products(folder: Path, images: int) -> None:
    """Write the balanced table, and say where the project is."""
    (folder / BALANCED).parent.mkdir(parents=True)
    with TableWriter(folder / BALANCED) as writer:
        for start in range(0, images, PIECE):
            rows = [product(n) for n in range(start, min(images, start + PIECE))]
            writer.write(pd.DataFrame(rows))


def measure(folder: Path, images: int) -> None:
    """Run the stage, and print a line of the table."""
    config = load_config(ROOT / "params.yaml")
    offline = config.generate.model_copy(update={"annotator": "offline", "review": None})
    config = config.model_copy(update={"generate": offline})
    os.chdir(folder)
    with (
        mock.patch.object(annotators, "open_archive", return_value=NoArchive()),
        AnonymousPeak() as peak,
    ):
        start = time.process_time()
        run(config)
        seconds = time.process_time() - start
    digest = hashlib.md5()
    for file in (GENERATED, REJECTS, REVIEWED, GENERATION):
        for part in [file] if file.is_file() else sorted(file.iterdir()):
            digest.update(part.read_bytes())
    print(
        f"| {images:,} | {seconds:.1f} | {1e3 * seconds / images:.2f} | {peak.bytes / 1e6:,.0f} "
        f"| {peak.bytes / images:,.0f} | {digest.hexdigest()[:8]} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 200_000, 400_000])
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        measure(args.here, args.images[0])
        return
    print("| images | CPU s | ms an image | peak MB | bytes an image | MD5 |")
    print("|--:|--:|--:|--:|--:|---|", flush=True)
    for count in args.images:
        with tempfile.TemporaryDirectory() as folder:
            write_products(Path(folder), count)
            command = [sys.executable, __file__, "--here", folder, "--images", str(count)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
