"""Write the catalogue as the two archives that Amazon Berkeley Objects is published as."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image, ImageChops

from abo_vqa.core.files import atomic_write
from abo_vqa.core.progress import progress
from sample.catalogue import Catalogue, Picture
from sample.dirt import draw_catalogue
from sample.scene import render
from sample.studio import SAMPLE

SIZE = 256  # ABO's small images: the longest side in pixels
LISTINGS, IMAGES = "abo-listings.tar", "abo-images-small.tar"


def write_archives(folder: Path, seed: int, workers: int = 2) -> Catalogue:
    """Draw the catalogue and write both archives; the same seed gives the same bytes."""
    catalogue = draw_catalogue(seed)
    with atomic_write(folder / LISTINGS) as path, tarfile.open(path, "w") as tar:
        for digit, lines in zip("0123456789abcdef", catalogue.shards, strict=True):
            text = "".join(line + "\n" for line in lines)
            add(tar, f"listings/metadata/listings_{digit}.json.gz", packed(text))
    files = picture_files(catalogue.pictures, workers)
    with atomic_write(folder / IMAGES) as path, tarfile.open(path, "w") as tar:
        add(tar, "images/metadata/images.csv.gz", packed(images_csv(catalogue.pictures)))
        for name in sorted(files):
            add(tar, f"images/small/{name}", files[name])
    return catalogue


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a member without owner or date, so that equal content gives equal bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def packed(text: str) -> bytes:
    """UTF-8, gzipped without name or date."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def images_csv(pictures: list[Picture]) -> str:
    """ABO's table of images: image_id,height,width,path."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("image_id", "height", "width", "path"))
    for picture in sorted(pictures, key=lambda p: p.image_id):
        if picture.listed:
            writer.writerow((picture.image_id, SIZE, SIZE, picture.path))
    return out.getvalue()


def picture_files(pictures: list[Picture], workers: int) -> dict[str, bytes]:
    """The path → JPEG bytes of every picture that isn't meant to be absent."""
    present = [p for p in pictures if p.damage != "absent"]
    with ProcessPoolExecutor(workers) as pool:
        encoded = progress(
            pool.map(jpeg, present, chunksize=16), total=len(present), desc="pictures", unit="image"
        )
        return {p.path: data for p, data in zip(present, encoded, strict=True)}


def jpeg(picture: Picture) -> bytes:
    """The encoded picture, damaged as its description says."""
    if picture.damage == "empty":
        return b""
    image = render(picture.look, SIZE, SAMPLE)
    if picture.shift != (0, 0):
        moved = Image.new("RGB", image.size, (255, 255, 255))
        moved.paste(ImageChops.offset(image, *picture.shift))
        image = moved
    out = io.BytesIO()
    image.save(out, "JPEG", quality=picture.quality, optimize=True)
    data = out.getvalue()
    return data[: len(data) // 2] if picture.damage == "truncated" else data
