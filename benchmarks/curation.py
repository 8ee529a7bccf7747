"""Curation at real size against the study's way: time, peak memory, growth, and equal bytes.

    python benchmarks/curation.py            # 147,702 listings, 398,212 images
    python benchmarks/curation.py --scale 0.1
    python benchmarks/curation.py --listings 1_000_000   # ours alone: is it linear, in what memory?

The study's way is Python's json and gzip and a loop over the rows of images.csv. Each measurement
is a process of its own (so that its peak memory is its own); the best of --repeat runs counts, the
two ways taking turns, since other work on the machine only ever adds time; processor seconds,
which other work stretches less, stand beside. Pictures aren't looked
at: the study doesn't either.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from helpers.abo_shaped import (
    EXCLUDED,
    IMAGES,
    LISTINGS,
    image_ids,
    write_images,
    write_listings,
    write_pictures,
)

CACHE = Path(__file__).parent.parent / ".cache" / "abo-vqa" / "benchmarks"
COLUMNS = ["image_path", "name", "product_type", "color", "keywords"]
CAP, SEED = 5000, 42


def value(entry: Any) -> Any:
    """The study's rule for a field, on plain JSON."""
    if not isinstance(entry, list):
        return entry
    if not entry:
        return None
    if "language_tag" in entry[0]:
        return entry[0]["value"] if entry[0]["language_tag"].startswith("en_") else None
    return entry[0]["value"]


def keywords(entries: list[dict[str, Any]]) -> str:
    seen: list[str] = []
    for entry in entries:
        if entry.get("language_tag", "en").startswith("en"):
            word = entry["value"].strip().lower()
            if word and word not in seen:
                seen.append(word)
    return ", ".join(seen)


def study(raw: Path, out: Path) -> None:
    """json.loads a line at a time, then a loop over images.csv with iterrows."""
    import pandas as pd

    metadata = {}
    with tarfile.open(raw / "abo-listings.tar") as tar:
        for name in sorted(tar.getnames()):
            with gzip.open(tar.extractfile(name), "rt", encoding="utf-8") as lines:
                for line in lines:
                    listing = json.loads(line)
                    if listing.get("main_image_id"):
                        metadata[listing["main_image_id"]] = {
                            "name": value(listing.get("item_name")),
                            "product_type": value(listing.get("product_type")),
                            "color": value(listing.get("color")),
                            "keywords": keywords(listing.get("item_keywords", [])),
                        }
    with tarfile.open(raw / "abo-images-small.tar") as tar:
        table = tar.extractfile("images/metadata/images.csv.gz")
        images = pd.read_csv(table, compression="gzip")
    rows = []
    for _, image in images.iterrows():
        entry = metadata.get(image["image_id"])
        if entry is not None and image["image_id"] not in EXCLUDED:
            rows.append({"image_path": image["path"], **entry})
    kept = []
    for row in rows:
        if all(row.values()) and all(row[c].isascii() for c in COLUMNS[1:4]):
            kept.append({c: row[c] if c == "image_path" else row[c].lower() for c in COLUMNS})
    table = pd.DataFrame(kept, columns=COLUMNS).sort_values("image_path")
    parts = [
        rows.sample(CAP, random_state=SEED) if len(rows) > CAP else rows
        for _, rows in table.groupby("product_type")
    ]
    pd.concat(parts).sort_values("image_path").to_csv(out, index=False)


def ours(raw: Path, out: Path) -> None:
    from abo_vqa.core.tables import write_table
    from abo_vqa.data.curation import curate
    from abo_vqa.data.study import STUDY_CONFIG, STUDY_SEED

    write_table(curate(raw, STUDY_CONFIG, STUDY_SEED, with_hashes=False).balanced, out)


class Run(NamedTuple):
    """One measurement: wall and processor seconds, peak MB, MD5 of the five columns."""

    wall: float
    cpu: float
    peak: float
    digest: str


def measure(way: str, raw: Path) -> Run:
    """Run one way in a fresh process."""
    command = [sys.executable, __file__, "--way", way, "--raw", str(raw)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, cpu, peak, digest = process.stdout.split()
    return Run(float(wall), float(cpu), float(peak), digest)


def one_way(way: str, raw: Path) -> None:
    """Print a Run of this process, imports included."""
    import hashlib

    import pandas as pd

    from abo_vqa.core.tables import read_table

    out = raw / f"{way}.csv"
    start = time.perf_counter()
    (study if way == "study" else ours)(raw, out)
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Linux counts kilobytes, macOS bytes.
    peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    table = pd.read_csv(out, keep_default_na=False, dtype=str) if out.is_file() else read_table(out)
    digest = hashlib.md5(table[COLUMNS].to_csv(index=False).encode()).hexdigest()
    print(wall, used.ru_utime + used.ru_stime, peak, digest)


def prepare(scale: float, *, pictures: bool = True) -> Path:
    """Archives of `scale` times the real size, made once."""
    raw = CACHE / f"abo-{scale:g}{'' if pictures else '-table'}"
    if not (raw / "abo-images-small.tar").exists():
        images = image_ids(round(IMAGES * scale), 0)
        write_listings(raw, round(LISTINGS * scale), images)
        if pictures:
            write_images(raw, images, 0)
        else:
            write_pictures(raw, images, lambda _: b"", paths=())
    return raw


def growth(listings: int, repeat: int) -> None:
    """Print processor seconds and memory of a quarter, a half and all of the listings."""
    print("".join(f"{name:>12}" for name in ("listings", "wall s", "cpu s", "per listing", "MB")))
    first = 0.0
    for part in (0.25, 0.5, 1.0):
        raw = prepare(listings * part / LISTINGS, pictures=False)
        runs = [measure("ours", raw) for _ in range(repeat)]
        wall, cpu, peak = (min(values) for values in list(zip(*runs, strict=True))[:3])
        each = cpu / (listings * part)
        first = first or each
        print(f"{listings * part:12,.0f}{wall:12.1f}{cpu:12.1f}{each / first:12.2f}{peak:12.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the real size (%(default)s)")
    parser.add_argument("--listings", type=int, help="measure growth up to so many")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way (%(default)s)")
    parser.add_argument("--way", choices=["study", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        one_way(args.way, args.raw)
        return
    if args.listings:
        growth(args.listings, args.repeat)
        return
    head = ("listings", "study s", "ours s", "ratio", "study cpu", "ours cpu", "ratio")
    print("".join(f"{name:>11}" for name in (*head, "study MB", "ours MB")))
    for part in (0.25, 0.5, 1.0):
        raw = prepare(args.scale * part)
        runs = [(measure("study", raw), measure("ours", raw)) for _ in range(args.repeat)]
        assert len({run.digest for pair in runs for run in pair}) == 1, "the two ways differ"
        slow, fast = (
            [min(values) for values in list(zip(*(pair[k] for pair in runs), strict=True))[:3]]
            for k in (0, 1)
        )
        print(
            f"{LISTINGS * args.scale * part:11,.0f}{slow[0]:11.2f}{fast[0]:11.2f}"
            f"{slow[0] / fast[0]:11.2f}{slow[1]:11.2f}{fast[1]:11.2f}{slow[1] / fast[1]:11.2f}"
            f"{slow[2]:11.0f}{fast[2]:11.0f}"
        )
    print("the five columns are the same bytes in all runs")


if __name__ == "__main__":
    main()
