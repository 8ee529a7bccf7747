"""Amazon Berkeley Objects as published: listings and images, read from the archives in place.

    with open_archive(Path("data/raw/abo")) as archive:
        for listing in archive.listings():
            ...
        image = archive.image("14/14fe8812.jpg")

The folder holds `abo-listings.tar` and `abo-images-small.tar`, or what they unpack to
(`listings/metadata/…`, `images/metadata/…`, `images/small/…`), or pins tars on object storage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec
import pyarrow as pa
from pyarrow import csv

from abo_vqa.core.errors import UserError
from abo_vqa.core.remote_pin import is_url, read_pin
from abo_vqa.data.decompression import iter_decompressed
from abo_vqa.data.image_decoding import UnreadableImageError, browser_safe_jpeg, decode
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.listings import BrokenLines, Listing, parse_lines
from abo_vqa.data.members import FolderMembers, TarMembers

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from abo_vqa.data.remote_tar import RemoteTarMembers

Members: TypeAlias = "TarMembers | FolderMembers | RemoteTarMembers"
"""The parts that an archive is read from."""

LISTINGS_TAR, IMAGES_TAR = "abo-listings.tar", "abo-images-small.tar"
IMAGE_PREFIX = "images/small/"
"""The folder of the images, in the tar and in its extracted copy."""

_SHARD = re.compile(r"listings/metadata/listings_\w+\.json(\.gz)?")
_OTHER_LISTINGS = re.compile(r"listings/metadata/[^/.]")  # what somebody may have meant for some
_WHAT_IS_EXPECTED = (
    "Archives are as Amazon Berkeley Objects publishes them; for others see docs/data.md, A "
    "catalogue of your own."
)
_IMAGES_CSV = "images/metadata/images.csv"
_IMAGES_CSV_TYPES = {
    "image_id": pa.string(),
    "height": pa.int64(),
    "width": pa.int64(),
    "path": pa.string(),
}

_T = TypeVar("_T")


class Archive:
    """The listings and images in a folder; a context manager. Reads are thread-safe.

    Attributes:
        raw: the folder, or its URL.
    """

    def __init__(self, raw: Path | str, listings: Members, images: Members) -> None:
        self.raw = raw
        self._listings, self._images = listings, images

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[Path | str], Archive], tuple[Path | str]]:
        return open_archive, (self.raw,)  # each worker process opens its own

    def close(self) -> None:
        """Close both archives."""
        self._listings.close()
        self._images.close()

    def listings(self, broken: BrokenLines | None = None) -> Iterator[Listing]:
        """Iterate over all listings, shard by shard in the order of their names.

        Args:
            broken: counts the lines that can't be parsed.

        Raises:
            UserError: a shard's gzip is damaged or cut off, or there is no shard or no listing.
        """
        broken = broken if broken is not None else BrokenLines()
        has_listings = False
        for shard in self.shards():
            for listing in self.read_shard(shard, broken):
                has_listings = True
                yield listing
        if not has_listings:
            raise self.no_listing(broken)

    def shards(self) -> list[str]:
        """Return the names of the files of listings, sorted.

        Raises:
            UserError: there is none.
        """
        shards = sorted(filter(_SHARD.fullmatch, self._listings.names()))
        if not shards:
            names = filter(_OTHER_LISTINGS.match, self._listings.names())
            there = ", ".join(sorted(name.rpartition("/")[2] for name in names)[:3])
            raise UserError(
                f"{self._listings.path} holds no listings/metadata/listings_*.json.gz"
                f"{f' (there: {there})' if there else ''}. {_WHAT_IS_EXPECTED}"
            )
        return shards

    def no_listing(self, broken: BrokenLines) -> UserError:
        """Return the error for shards without any listing.

        Args:
            broken: the lines that can't be parsed.
        """
        return UserError(
            f"{self._listings.path} holds {len(self.shards())} file(s) of listings, but no listing "
            f"in them ({broken.count:,} broken lines)."
        )

    def read_shard(self, shard: str, broken: BrokenLines) -> Iterator[Listing]:
        """Iterate over one shard's listings; only a chunk of its text is in memory at a time.

        Args:
            shard: one of `shards`.
            broken: counts the lines that can't be parsed.

        Raises:
            UserError: the shard's gzip is damaged or cut off.
        """
        decoder = msgspec.json.Decoder(Listing)
        before, rest = 0, b""  # lines already parsed; the start of an unfinished line
        for chunk in iter_decompressed(
            self._listings.read(shard) or b"", shard, self._listings.path
        ):
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest += chunk
                continue
            text, rest = rest + chunk[:cut], chunk[cut:]
            try:
                yield from decoder.decode_lines(text)
            except (ValueError, RecursionError):  # a line is unusual: take the chunk line by line
                yield from parse_lines(text, shard, before, broken)
            before += text.count(b"\n")
        yield from parse_lines(rest, shard, before, broken)

    def image_table(self) -> pd.DataFrame:
        """Read images.csv: image_id, height, width and path (below images/small), in its order.

        Rows aren't checked against the images.

        Raises:
            UserError: there is no table, it is damaged, or a column is missing.
        """
        for name in (_IMAGES_CSV + ".gz", _IMAGES_CSV):
            data = self._images.read(name)
            if data is not None:
                break
        else:
            raise UserError(f"{self._images.path} holds no {_IMAGES_CSV}.gz. {_WHAT_IS_EXPECTED}")
        text = b"".join(iter_decompressed(data, name, self._images.path))
        options = csv.ConvertOptions(column_types=_IMAGES_CSV_TYPES)
        try:
            table = csv.read_csv(pa.BufferReader(text), convert_options=options)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{name} in {self._images.path} isn't a proper table: {error}"
            ) from error
        missing = [column for column in _IMAGES_CSV_TYPES if column not in table.column_names]
        if missing:
            raise UserError(
                f"{name} in {self._images.path} lacks the column(s) {', '.join(missing)}; "
                f"it has {', '.join(table.column_names)}."
            )
        frame: pd.DataFrame = table.select(list(_IMAGES_CSV_TYPES)).to_pandas()
        return frame

    def image_paths(self) -> list[str]:
        """Return the paths of all images, as `read` takes them, sorted."""
        names = self._images.names()
        return [name.removeprefix(IMAGE_PREFIX) for name in names if name.startswith(IMAGE_PREFIX)]

    def sizes(self, paths: Iterable[str]) -> list[int | None]:
        """Return each image's size in bytes, None for those that aren't there.

        Sizes identify images cheaply: a copy of an archive keeps them, and other images under the
        same names hardly have the same ones.

        Args:
            paths: of the images.
        """
        return [self._images.size(IMAGE_PREFIX + path) for path in paths]

    def prefetch(self, paths: Iterable[str]) -> None:
        """Fetch images from object storage, many at a time; of local archives, do nothing.

        Call it with some hundred images that are read next.

        Args:
            paths: of the images; missing ones are reported when they are read.

        Raises:
            UserError: the archive changed, or may not be read.
            RetryLaterError: the network kept failing.
        """
        self._images.prefetch(IMAGE_PREFIX + path for path in paths)

    def read(self, path: str) -> bytes:
        """Return an image's bytes.

        Args:
            path: the image, e.g. "14/14fe8812.jpg".

        Raises:
            ImageError: there is no such image.
        """
        data = self._images.read(IMAGE_PREFIX + path)
        if data is None:
            raise ImageError(path, "not in the archive")
        return data

    def image(self, path: str) -> Image.Image:
        """Decode an image completely, as RGB; see `image_decoding.decode`.

        Args:
            path: the image.

        Raises:
            ImageError: it is missing, empty, not a JPEG, of absurd dimensions, or damaged.
        """
        return self._convert(path, partial(decode, by_name=True))

    def jpeg(self, path: str, side: int | None = None) -> bytes:
        """Return an image as a JPEG that looks the same in every program.

        Args:
            path: the image.
            side: maximum pixels per side; None for the image's own size.

        Raises:
            ImageError: see `image`.
        """
        return self._convert(path, partial(browser_safe_jpeg, by_name=True, side=side))

    def _convert(self, path: str, convert: Callable[[bytes, str], _T]) -> _T:
        """Apply a function to an image's bytes and path."""
        try:
            return convert(self.read(path), path)
        except UnreadableImageError as error:
            raise ImageError(path, str(error)) from error


def open_archive(raw: str | Path) -> Archive:
    """Open the two archives in a folder, or the folder they were extracted to.

    Args:
        raw: the folder; its URL, or the folder of its pin, if the archives are on object storage.

    Raises:
        UserError: the folder or one of its two parts is missing, or an archive is damaged.
        RetryLaterError: archives on object storage can't be reached.
    """
    pin = None if is_url(raw) else read_pin(Path(raw))
    if is_url(raw) or pin:
        from abo_vqa.data.remote_tar import open_remote_tar  # and with it fsspec

        url = pin.url if pin else str(raw)
        return _open_both(raw, lambda tar, _: open_remote_tar(url, tar, pin))
    raw = Path(raw)
    if not raw.is_dir():
        raise UserError(
            f"no folder {raw}. For the embedded sample: `dvc pull data/raw/sample`; "
            "for the real archives: `make abo`; for archives on object storage: "
            f"`abo-vqa fetch --profile {raw.name}`; for a catalogue of your own: docs/data.md."
        )
    return _open_both(raw, partial(_open_part, raw))


def _open_both(raw: str | Path, open_part: Callable[[str, str], Members]) -> Archive:
    """Open the listings and the images."""
    listings = open_part(LISTINGS_TAR, "listings")
    try:
        images = open_part(IMAGES_TAR, "images")
    except BaseException:
        listings.close()
        raise
    return Archive(raw if is_url(raw) else Path(raw), listings, images)


def _open_part(raw: Path, tar: str, folder: str) -> TarMembers | FolderMembers:
    """The tar if it is there, else the folder that comes out of it."""
    if (raw / tar).is_file():
        return TarMembers(raw / tar)
    if (raw / folder / "metadata").is_dir():
        return FolderMembers(raw)
    contents = ", ".join(sorted(p.name for p in raw.iterdir())[:8]) or "nothing"
    raise UserError(
        f"{raw} holds neither {tar} nor {folder}/metadata/ (found: {contents}). "
        "`make abo` downloads the real archives, `dvc pull data/raw/sample` the sample's; "
        "for a catalogue of your own see docs/data.md."
    )
