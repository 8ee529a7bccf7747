"""Rows with their images as Parquet, in bounded memory.

Each row holds its image. Rows of one image are written together and the column of bytes is
dictionary-encoded, so that a file stores an image's bytes once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from abo_vqa.data.archive import Archive
from abo_vqa.reporting.export_format import (
    ExportColumn,
    ExportedSplit,
    ExportFile,
    Row,
    export_columns,
)
from abo_vqa.reporting.publish.image_rows import images_with_rows
from abo_vqa.reporting.publish.resuming import ExportJournal, Position

# Readers hold one row group at a time; hubs recommend files below half a gigabyte.
GROUP_BYTES, _GROUP_ROWS = 16 << 20, 2_000
_SHARD_BYTES = 256 << 20
_ARROW_TYPES = {
    "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    "choices": pa.list_(pa.string()),
    "int64": pa.int64(),
    "string": pa.string(),
}
_STRING_FEATURE = {"dtype": "string", "_type": "Value"}
_FEATURES = {  # of `datasets`, which tells an image from a struct by them
    "image": {"_type": "Image"},
    "choices": {"feature": _STRING_FEATURE, "_type": "List"},
    "int64": {"dtype": "int64", "_type": "Value"},
    "string": _STRING_FEATURE,
}
_LEAVES = {"image": ("image.bytes", "image.path"), "choices": ("choices.list.element",)}


@dataclass
class _RowGroup:
    """Rows written together.

    Attributes:
        rows: with their image.
        images: how many different ones.
        size: the images' bytes.
        last: number of the last image among the split's.
    """

    rows: list[dict[str, Any]]
    images: int = 0
    size: int = 0
    last: int = 0


class _ShardWriter:
    """Writes row groups to files of limited size, and records each finished one."""

    def __init__(
        self,
        folder: Path,
        name: str,
        columns: Sequence[ExportColumn],
        shard_bytes: int,
        journal: ExportJournal,
    ) -> None:
        self._folder, self._name, self._columns = folder, name, columns
        self._shard_bytes, self._journal = shard_bytes, journal
        self._schema = _arrow_schema(columns)
        self._writer: parquet.ParquetWriter | None = None
        self._size = self._rows = 0  # of the images, and the rows, in the open file
        self.at = journal.position(name)
        if not all((folder / shard).is_file() for shard, _ in self.at.shards):
            self.at = Position()  # interrupted while the files got their final names

    def write(self, group: _RowGroup) -> None:
        """Append a row group, to a new file if the open one would become too large."""
        if self._writer is None or self._size + group.size > self._shard_bytes:
            self._open_next()
        table = _arrow_table(group.rows, self._schema)
        self._writer.write_table(table)  # type: ignore[union-attr]
        self._size, self._rows = self._size + group.size, self._rows + len(group.rows)
        self.at.done = group.last
        self.at.images, self.at.rows = self.at.images + group.images, self.at.rows + len(group.rows)
        self.at.memory_bytes += table.nbytes

    def _open_next(self) -> None:
        self.finish()
        path = self._folder / self._next_name()
        self._writer = parquet.ParquetWriter(path, self._schema, **_encoding(self._columns))

    def _next_name(self) -> str:
        return f"{self._name}-{len(self.at.shards):05}.parquet"

    def finish(self) -> None:
        """Finish the open file, and record it."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        self.at.shards.append((self._next_name(), self._rows))
        self._size = self._rows = 0
        self._journal.save(self._name, self.at)

    def close(self) -> None:
        """Close the open file, whole or not."""
        if self._writer is not None:
            self._writer.close()

    def shards(self) -> tuple[ExportFile, ...]:
        """Give the files their final names, now that their number is known."""
        total = len(self.at.shards)
        return tuple(
            _shard(self._folder / name, f"{self._name}-{number:05}-of-{total:05}.parquet", rows)
            for number, (name, rows) in enumerate(self.at.shards)
        )


def write_parquet_split(
    name: str,
    rows: Sequence[Row],
    archive: Archive,
    folder: Path,
    journal: ExportJournal,
    shard_bytes: int | None = None,
) -> ExportedSplit:
    """Write data/<name>-00000-of-….parquet into a folder.

    Args:
        name: of the split.
        rows: with row_id, image_path, question, answer, and further columns where known.
        archive: where the images are read from.
        folder: the export's.
        journal: what is whole of it: finished files.
        shard_bytes: of images per file, about; None for the usual size.
    """
    columns = export_columns(rows[0])
    target = folder / "data"
    target.mkdir(parents=True, exist_ok=True)
    writer = _ShardWriter(target, name, columns, shard_bytes or _SHARD_BYTES, journal)
    try:
        for group in _row_groups(rows, archive, name, writer.at.done):
            writer.write(group)
        writer.finish()
    finally:
        writer.close()
    at, shards = writer.at, writer.shards()
    return ExportedSplit(name, at.rows, at.images, at.memory_bytes, len(rows) - at.rows, shards)


def _row_groups(rows: Sequence[Row], archive: Archive, name: str, done: int) -> Iterator[_RowGroup]:
    """Yield row groups; all rows of an image are in the same one."""
    group = _RowGroup([])
    for number, path, content, same in images_with_rows(rows, archive, name, done):
        image = {"bytes": content, "path": path}
        group.rows += [{**row, "image": image} for row in same]
        group.images, group.size, group.last = group.images + 1, group.size + len(content), number
        if group.size >= GROUP_BYTES or len(group.rows) >= _GROUP_ROWS:
            yield group
            group = _RowGroup([])
    if group.rows:
        yield group


def _arrow_schema(columns: Sequence[ExportColumn]) -> pa.Schema:
    """Return Arrow types, with the features by which `datasets` recognises images."""
    features = {column.name: _FEATURES[column.kind] for column in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(column.name, _ARROW_TYPES[column.kind]) for column in columns], metadata)


def _encoding(columns: Sequence[ExportColumn]) -> dict[str, Any]:
    """Return Parquet's options: JPEGs don't compress further; the dictionary stores each once."""
    leaves = [leaf for column in columns for leaf in _LEAVES.get(column.name, (column.name,))]
    return {
        "compression": {leaf: "NONE" if leaf == "image.bytes" else "ZSTD" for leaf in leaves},
        "use_dictionary": True,
        "dictionary_pagesize_limit": 2 * GROUP_BYTES,
        "data_page_size": 1 << 20,
    }


def _arrow_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.array(
            [int(row[field.name]) if field.type == pa.int64() else row[field.name] for row in rows],
            field.type,
        )
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _shard(path: Path, name: str, rows: int) -> ExportFile:
    """Rename a file to its final name; return it with size and hash."""
    final = path.rename(path.with_name(name))
    with final.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return ExportFile(f"data/{name}", final.stat().st_size, digest, rows)
