"""Hashing images in `curate`, out of a tar: processor seconds of an image, growth, peak memory.

JPEGs of 256 x 256 pixels as ABO's small images are, 2,048 different ones over and over, in a tar of
so many members. What is measured is all that the stage does after its rows are chosen: the tar's
index is built, each image read, decoded, hashed twice, and the table gets the hashes. Each size
runs in a process of its own, the smallest twice, which shows the noise.

    python benchmarks/image_hashes.py [--images 20000 40000 80000]
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import pandas as pd
from helpers.abo_shaped import image_ids, write_pictures
from helpers.real_size import photographs
from helpers.usage import AnonymousPeak

from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.archive import IMAGES_TAR, open_archive
from abo_vqa.data.curation import BALANCED_COLUMNS, _hash_rows

DIFFERENT = 2048


def jpegs() -> list[bytes]:
    """Return different JPEGs."""
    made = []
    for photograph in photographs(DIFFERENT, 0):
        buffer = io.BytesIO()
        photograph.save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


def measure(raw: Path) -> None:
    """Hash all images of an archive; print a line of the table."""
    with open_archive(raw) as archive:
        paths = sorted(archive.image_table()["path"])
    rows = pd.DataFrame("", range(len(paths)), BALANCED_COLUMNS, dtype="str")
    table = read_table(write_table(rows.assign(image_path=paths), raw / "rows.csv"))
    for index in raw.glob("*.index.npz"):
        index.unlink()
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    with AnonymousPeak() as peak, open_archive(raw) as archive:
        hashed, problems = _hash_rows(table, archive, map)
    wall = time.perf_counter() - wall
    used, count = resource.getrusage(resource.RUSAGE_SELF), len(table)
    assert len(hashed) == count
    assert not problems
    assert hashed["phash"].nunique() <= DIFFERENT
    seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    size = (raw / IMAGES_TAR).stat().st_size
    print(
        f"| {count:,} | {size / count:,.0f} | {wall:.1f} | {seconds:.1f} "
        f"| {1e3 * seconds / count:.3f} | {peak.bytes / 1e6:.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 40_000, 80_000])
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        measure(args.here)
        return
    made = jpegs()
    print("| images | bytes each in the tar | wall s | CPU s | CPU ms an image | peak MB |")
    print("|--:|--:|--:|--:|--:|--:|", flush=True)
    for count in (args.images[0], *args.images):
        with tempfile.TemporaryDirectory() as name:
            folder, contents = Path(name), cycle(made)
            write_pictures(folder, image_ids(count, 0), lambda _, c=contents: next(c))
            (folder / "listings/metadata").mkdir(parents=True)
            command = [sys.executable, __file__, "--here", name]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
