"""A split of an exported set with choices: its rows and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from abo_vqa.core.errors import UserError
from abo_vqa.data.image_decoding import UnreadableImageError, decode
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.parquet_files import reading_parquet

if TYPE_CHECKING:
    from PIL.Image import Image

_COLUMNS = ("row_id", "image_path", "question", "answer", "choices", "answer_index")
_REMEDY = "Run `abo-vqa export --choices 4`"


@dataclass(frozen=True)
class ChoiceSet:
    """One split of an exported set.

    Attributes:
        files: its Parquet files.
        rows: row_id, image_path, question, answer, choices, answer_index, and answer_text, the
            right choice.
        images: path → JPEG.
    """

    files: Sequence[Path]
    rows: pd.DataFrame
    images: dict[str, bytes]

    def image(self, path: str) -> Image:
        """Decode an image.

        Args:
            path: as in `rows`.

        Raises:
            ImageError: it can't be decoded.
        """
        try:
            return decode(self.images[path], path)
        except UnreadableImageError as error:
            raise ImageError(path, str(error)) from error


def read_choice_set(source: Path, split: str) -> ChoiceSet:
    """Read a split of an exported set.

    Args:
        source: an export's folder, or one Parquet file of its columns.
        split: e.g. "test".

    Returns:
        Its rows and images.

    Raises:
        UserError: there is no such split, it has no choices, or a file is no export's or damaged.
    """
    files = sorted(source.glob(f"data/{split}-*.parquet")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise UserError(f"no {split} split in {source}. {_REMEDY} first.")
    parts: list[pd.DataFrame] = []
    images: dict[str, bytes] = {}
    for path in files:
        with reading_parquet(path, f"{_REMEDY} again."):
            parts += _read_file(path, images)
    return ChoiceSet(files, pd.concat(parts, ignore_index=True), images)


def _read_file(path: Path, images: dict[str, bytes]) -> list[pd.DataFrame]:
    """Read a file's rows, one table per row group; add its images to `images`."""
    file = parquet.ParquetFile(path)
    _check_schema(path, file.schema_arrow)
    parts = []
    for group in range(file.num_row_groups):  # JPEGs: a hundred thousand take under 1 GB
        table = file.read_row_group(group, [*_COLUMNS, "image"])
        rows = table.select(list(_COLUMNS)).to_pandas()
        rows["answer_text"] = _right_choices(path, table)
        parts.append(rows)
        column = table["image"]
        for i, image_path in enumerate(table["image_path"].to_pylist()):
            if image_path not in images:
                images[image_path] = (column[i].as_py() or {}).get("bytes") or b""
    return parts


def _check_schema(path: Path, schema: pa.Schema) -> None:
    """Raise UserError if a file lacks a column, or one has another type than in an export."""
    missing = [name for name in (*_COLUMNS, "image") if name not in schema.names]
    if missing:
        raise UserError(
            f"{path} lacks the column(s) {', '.join(missing)}. "
            f"{_REMEDY}: choices aren't made without it."
        )
    choices, image = schema.field("choices").type, schema.field("image").type
    fits = {
        "choices": pa.types.is_list(choices) or pa.types.is_large_list(choices),
        "answer_index": pa.types.is_integer(schema.field("answer_index").type),
        "image": pa.types.is_struct(image) and image.get_field_index("bytes") >= 0,
    }
    if wrong := [f"{name} ({schema.field(name).type})" for name, fit in fits.items() if not fit]:
        raise UserError(
            f"{path}: column(s) of another type than in an export: {', '.join(wrong)}. "
            f"{_REMEDY} again."
        )


def _right_choices(path: Path, table: pa.Table) -> list[str]:
    """Return the choice that each row's answer_index names.

    Raises:
        UserError: a row's index is none of its choices'.
    """
    right = []
    for row in table.select(["row_id", "choices", "answer_index"]).to_pylist():
        choices, index = row["choices"] or [], row["answer_index"]
        if index is None or not 0 <= index < len(choices):
            raise UserError(
                f"{path}, row_id {row['row_id']}: answer_index is {index}, and there are "
                f"{len(choices)} choices. {_REMEDY} again."
            )
        right.append(choices[index])
    return right
