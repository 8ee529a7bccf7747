"""Rows with their pictures as Parquet, in bounded memory.

A picture stands in each of its rows. Rows of one picture are put together and the column of bytes
is dictionary-encoded, so that a file holds a picture's bytes once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.progress import progress
from abo_vqa.data.image_decoding import plain_file
from abo_vqa.data.image_files import ImageError

if TYPE_CHECKING:
    import pyarrow as pa

    from abo_vqa.data.archive import Archive

Row = Mapping[str, Any]

# Readers hold a row group at a time; hubs advise files below half a gigabyte.
GROUP_BYTES, _GROUP_ROWS = 16 << 20, 2_000
_SHARD_BYTES = 256 << 20
FIRST = ("row_id", "image", "image_path", "question", "answer")
_MORE = (
    "choices", "answer_index", "question_type", "question_kind", "annotator",
    "image_id", "item_id", "product_type", "image_sha1", "phash",
)  # fmt: skip
_WHOLE_NUMBERS = ("row_id", "answer_index")


@dataclass(frozen=True)
class _Shard:
    """A file: its path within the export, its size in bytes, its SHA-256 (hex), its rows."""

    path: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Split:
    """What was written of a split.

    Attributes:
        unreadable: rows left out, since their picture can't be read.
        loaded: bytes in memory when all of it is loaded.
    """

    name: str
    rows: int
    pictures: int
    loaded: int
    unreadable: int
    shards: tuple[_Shard, ...]

    @property
    def size(self) -> int:
        return sum(shard.size for shard in self.shards)


def kind_of(column: str) -> str:
    """ "image", "choices", "int64" or "string"."""
    if column in ("image", "choices"):
        return column
    return "int64" if column in _WHOLE_NUMBERS else "string"


def columns_of(row: Row) -> list[str]:
    """The columns that a set has, in the order of the files."""
    return [name for name in (*FIRST, *_MORE) if name in row or name in FIRST]


def schema(columns: Sequence[str]) -> pa.Schema:
    """Arrow types, and the features by which `datasets` knows a picture for a picture."""
    import pyarrow as pa

    types = {
        "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "choices": pa.list_(pa.string()),
        "int64": pa.int64(),
        "string": pa.string(),
    }
    text = {"dtype": "string", "_type": "Value"}
    features = {
        "image": {"_type": "Image"},
        "choices": {"feature": text, "_type": "List"},
        "int64": {"dtype": "int64", "_type": "Value"},
        "string": text,
    }
    known = {name: features[kind_of(name)] for name in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": known}})}
    return pa.schema([(name, types[kind_of(name)]) for name in columns], metadata)


def write_split(
    name: str, rows: Sequence[Row], archive: Archive, folder: Path, shard_bytes: int = _SHARD_BYTES
) -> Split:
    """Write data/<name>-00000-of-….parquet into a folder.

    Args:
        rows: with row_id, image_path, question, answer; more of `_MORE` where known.
        shard_bytes: of pictures a file, about.
    """
    from pyarrow import parquet

    columns = columns_of(rows[0])
    target = folder / "data"
    target.mkdir(parents=True, exist_ok=True)
    written: list[tuple[Path, int]] = []
    pictures = total = filled = loaded = 0
    writer: Any = None
    try:
        for group, count, size in groups(rows, archive, name):
            if writer is None or filled + size > shard_bytes:
                if writer is not None:
                    writer.close()
                path = target / f"{name}-{len(written):05}.parquet"
                writer = parquet.ParquetWriter(path, schema(columns), **encoding(columns))
                written.append((path, 0))
                filled = 0
            made = table(group, columns)
            writer.write_table(made)
            path, before = written[-1]
            written[-1] = (path, before + len(group))
            filled, pictures, total = filled + size, pictures + count, total + len(group)
            loaded += made.nbytes
    finally:
        if writer is not None:
            writer.close()
    shards = tuple(
        _named(path, f"{name}-{number:05}-of-{len(written):05}.parquet", count)
        for number, (path, count) in enumerate(written)
    )
    return Split(name, total, pictures, loaded, len(rows) - total, shards)


def encoding(columns: Sequence[str]) -> dict[str, Any]:
    """JPEG doesn't compress further; a row group's pictures are its dictionary."""
    plain = {"image": ["image.bytes", "image.path"], "choices": ["choices.list.element"]}
    leaves = [leaf for name in columns for leaf in plain.get(name, [name])]
    return {
        "compression": {leaf: "NONE" if leaf == "image.bytes" else "ZSTD" for leaf in leaves},
        "use_dictionary": True,
        "dictionary_pagesize_limit": 2 * GROUP_BYTES,
        "data_page_size": 1 << 20,
    }


def groups(
    rows: Sequence[Row], archive: Archive, name: str
) -> Iterator[tuple[list[dict[str, Any]], int, int]]:
    """(rows of a row group, pictures in it, their bytes); all rows of a picture together."""
    by_picture: dict[str, list[Row]] = {}
    for row in rows:
        by_picture.setdefault(row["image_path"], []).append(row)
    group: list[dict[str, Any]] = []
    count = size = 0
    for path, same in progress(
        by_picture.items(), total=len(by_picture), desc=name, unit="picture"
    ):
        try:
            shown = archive.image(path)
            data = plain_file(archive.read(path), path, shown)  # all see what our models see
        except ImageError:
            continue
        image = {"bytes": data, "path": path}
        group += [{**row, "image": image} for row in same]
        count, size = count + 1, size + len(data)
        if size >= GROUP_BYTES or len(group) >= _GROUP_ROWS:
            yield group, count, size
            group, count, size = [], 0, 0
    if group:
        yield group, count, size


def table(group: Sequence[Row], columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    def value(row: Row, column: str) -> Any:
        return int(row[column]) if column in _WHOLE_NUMBERS else row[column]

    wanted = schema(columns)
    arrays = [
        pa.array([value(row, name) for row in group], wanted.field(name).type) for name in columns
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)


def _named(path: Path, name: str, rows: int) -> _Shard:
    """Give a file its final name, now that the number of files is known."""
    final = path.rename(path.with_name(name))
    with final.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return _Shard(f"data/{name}", final.stat().st_size, digest, rows)
