"""Croissant metadata (MLCommons, format 1.0): files with their checksums, columns with types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from abo_vqa.reporting.export_format import ExportColumn, ExportedSplit, ExportFile

try:
    import mlcroissant as mlc
except ImportError:  # an optional extra
    mlc = None

INSTALL_HINT = "`make setup EXTRAS=publish`"


def croissant_metadata(
    *,
    name: str,
    description: str,
    licence: str,
    citation: str,
    version: str,
    columns: Sequence[ExportColumn],
    splits: Sequence[ExportedSplit],
) -> dict[str, Any] | None:
    """Return the content of croissant.json: one record set per split, paths relative to the file.

    Args:
        name: of the set.
        description: of the set.
        licence: an address or a name.
        citation: whom to credit.
        version: of the set, as in semantic versioning.
        columns: of both splits.
        splits: what was written.

    Returns:
        The metadata; None if mlcroissant isn't installed.

    Raises:
        mlcroissant.ValidationError: the metadata aren't valid Croissant.
    """
    if mlc is None:
        return None
    files = [_file_object(shard) for split in splits for shard in split.shards]
    metadata = mlc.Metadata(
        name=name,
        description=description,
        license=[licence],
        cite_as=citation,
        version=version,
        distribution=[*files, *(_file_set(split) for split in splits)],
        record_sets=[_record_set(split, columns) for split in splits],
    )
    content: dict[str, Any] = metadata.to_json()
    return content


def _file_object(shard: ExportFile) -> mlc.FileObject:
    return mlc.FileObject(
        id=shard.path,
        name=shard.path,
        content_url=shard.path,
        content_size=f"{shard.size} B",
        encoding_formats=[mlc.EncodingFormat.PARQUET],
        sha256=shard.sha256,
    )


def _file_set(split: ExportedSplit) -> mlc.FileSet:
    """Return a split's files; in no container, so they are looked for beside croissant.json."""
    return mlc.FileSet(
        id=_file_set_id(split),
        name=_file_set_id(split),
        encoding_formats=[mlc.EncodingFormat.PARQUET],
        includes=[f"data/{split.name}-*.parquet"],
    )


def _file_set_id(split: ExportedSplit) -> str:
    return f"{split.name}-files"


def _record_set(split: ExportedSplit, columns: Sequence[ExportColumn]) -> mlc.RecordSet:
    return mlc.RecordSet(
        id=split.name,
        name=split.name,
        description=f"The {split.name} split: {split.rows:,} questions.",
        fields=[_field(split, column) for column in columns],
    )


def _field(split: ExportedSplit, column: ExportColumn) -> mlc.Field:
    types = {"image": mlc.DataType.IMAGE_OBJECT, "int64": mlc.DataType.INTEGER}
    is_image = column.kind == "image"
    return mlc.Field(
        id=f"{split.name}/{column.name}",
        name=column.name,
        description=column.description,
        data_types=[types.get(column.kind, mlc.DataType.TEXT)],
        repeated=True if column.kind == "choices" else None,
        source=mlc.Source(
            file_set=_file_set_id(split),
            extract=mlc.Extract(column=column.name),
            transforms=[mlc.Transform(json_path="bytes")] if is_image else [],
        ),
    )
