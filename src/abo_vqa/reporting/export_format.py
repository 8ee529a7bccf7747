"""What an export consists of: its columns, splits and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Row = Mapping[str, Any]
EXPORT_FORMATS = ("parquet", "llava", "vlmeval", "lmms-eval")
"""What `abo-vqa export --format` takes."""


@dataclass(frozen=True)
class ExportColumn:
    """A column.

    Attributes:
        name: of the column.
        description: what it holds, for the data card and for Croissant.
        kind: its type; "choices" is a list of strings.
        required: whether every export has it.
    """

    name: str
    description: str
    kind: Literal["image", "choices", "int64", "string"] = "string"
    required: bool = False


_COLUMNS = (
    ExportColumn("row_id", "Position of the row in the whole VQA table.", "int64", required=True),
    ExportColumn("image", "The image.", "image", required=True),
    ExportColumn(
        "image_path",
        "Path of the image below images/small of the archive.",
        required=True,
    ),
    ExportColumn("question", "The question.", required=True),
    ExportColumn("answer", "Its answer, usually a single word.", required=True),
    ExportColumn("choices", "Possible answers, exactly one of them right.", "choices"),
    ExportColumn("answer_index", "Position of the right answer in the choices, from 0.", "int64"),
    ExportColumn("question_type", "yes/no, counting, color or other, by the question's words."),
    ExportColumn("question_kind", "What the question was written to ask for."),
    ExportColumn("annotator", "What wrote the question and the answer."),
    ExportColumn("image_id", "The image's id in the catalogue."),
    ExportColumn("item_id", "The product's id in the catalogue."),
    ExportColumn("product_type", "The product's type."),
    ExportColumn("image_sha1", "SHA-1 of the image's bytes."),
    ExportColumn("phash", "Perceptual hash of the image, 64 bits in hexadecimal."),
)


def export_columns(row: Row) -> list[ExportColumn]:
    """Return the columns that a set with such rows has, in the order of the files."""
    return [column for column in _COLUMNS if column.required or column.name in row]


@dataclass(frozen=True)
class ExportFile:
    """A file of a split.

    Attributes:
        path: within the export.
        size: in bytes.
        sha256: in hexadecimal.
        rows: how many it holds.
    """

    path: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class ExportedSplit:
    """What was written of a split.

    Attributes:
        name: `train` or `test`.
        rows: how many were written.
        images: how many different ones they are about.
        memory_bytes: size of the whole split when it is loaded.
        unreadable: rows left out, because their image can't be read.
        shards: the files.
    """

    name: str
    rows: int
    images: int
    memory_bytes: int
    unreadable: int
    shards: tuple[ExportFile, ...]

    @property
    def file_bytes(self) -> int:
        """The size of its files."""
        return sum(shard.size for shard in self.shards)
