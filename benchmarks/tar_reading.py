"""Pictures straight from the tar against extracting it first, at real size.

    python benchmarks/tar_reading.py                     # 398,212 members, 3.3 GB; needs 7 GB free
    python benchmarks/tar_reading.py --members 40000

"Cold" means that the pages were dropped from the system's cache (posix_fadvise) before. Dropping
leaves the file system's own tables cached, which favours the extracted files. The same pictures are
read in the same random order both ways, and their bytes compared. The best of --repeat runs counts.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from helpers.abo_shaped import IMAGES, image_ids, write_images

CACHE = Path(__file__).parent.parent / ".cache" / "abo-vqa" / "benchmarks"
SAMPLE = 14_798  # pictures in the study's balanced table
MEAN_BYTES = 7_500


def drop(paths: Iterable[Path]) -> None:
    """Write back and forget the cached pages of some files."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def best(repeat: int, before: Callable[[], None], action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(repeat):
        before()
        seconds.append(timed(action))
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=IMAGES, help="(%(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (%(default)s)")
    args = parser.parse_args()
    if not hasattr(os, "posix_fadvise"):
        raise SystemExit("needs posix_fadvise to empty the cache: run this on Linux")

    from abo_vqa.data.members import TarMembers, index_path
    from abo_vqa.data.tar_index import build_index

    raw, out = CACHE / f"tar-{args.members}", CACHE / "extracted"
    images = image_ids(args.members, 0)
    tar = raw / "abo-images-small.tar"
    if not tar.exists():
        write_images(raw, images, MEAN_BYTES)
    index_path(tar).unlink(missing_ok=True)
    chosen = [path for _, path in images]
    random.Random(0).shuffle(chosen)
    chosen = [f"images/small/{path}" for path in chosen[: round(SAMPLE * args.members / IMAGES)]]

    def nothing() -> None:
        """Warm: leave the cache as it is."""

    def cold_tar() -> None:
        drop([tar])

    def cold_files() -> None:
        drop(out / name for name in chosen)

    def empty_folder() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        drop([tar])

    unpack = best(
        1, empty_folder, lambda: subprocess.run(["tar", "-xf", tar, "-C", out], check=True)
    )
    index = best(args.repeat, cold_tar, lambda: build_index(tar))
    members = TarMembers(tar)

    def from_tar() -> list[bytes | None]:
        return [members.read(name) for name in chosen]

    def from_files() -> list[bytes]:
        return [(out / name).read_bytes() for name in chosen]

    reopen = best(args.repeat, nothing, lambda: TarMembers(tar).close())
    assert from_tar() == from_files(), "the two ways differ"
    cold = (best(args.repeat, cold_tar, from_tar), best(args.repeat, cold_files, from_files))
    warm = (best(args.repeat, nothing, from_tar), best(args.repeat, nothing, from_files))
    members.close()
    shutil.rmtree(out)

    print(f"{args.members:,} members, {tar.stat().st_size / 1e9:.2f} GB; {len(chosen):,} images")
    _print_table(unpack, index, reopen, cold, warm)


def _print_table(
    unpack: float,
    index: float,
    reopen: float,
    cold: tuple[float, float],
    warm: tuple[float, float],
) -> None:
    """Print seconds, of reading as (from the tar, from files)."""
    print(f"{'':34}{'seconds':>9}{'ratio':>8}")
    print(f"{'extract everything (tar -x), cold':34}{unpack:9.2f}{1:8.1f}")
    print(f"{'build the index, cold':34}{index:9.2f}{unpack / index:8.1f}")
    print(f"{'open with the kept index':34}{reopen:9.2f}{unpack / reopen:8.1f}")
    print(f"{'read from extracted files, cold':34}{cold[1]:9.2f}{1:8.1f}")
    print(f"{'read from the tar, cold':34}{cold[0]:9.2f}{cold[1] / cold[0]:8.1f}")
    print(f"{'read from extracted files, warm':34}{warm[1]:9.2f}{1:8.1f}")
    print(f"{'read from the tar, warm':34}{warm[0]:9.2f}{warm[1] / warm[0]:8.1f}")
    print(f"index + all pictures, cold, against extraction: {unpack / (index + cold[0]):.1f} times")


if __name__ == "__main__":
    main()
