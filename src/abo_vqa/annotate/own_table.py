"""A user's own VQA table in place of generation (`generate.annotator: file`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from abo_vqa.annotate.inputs import unreadable_images
from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import Archive
from abo_vqa.data.columns import read_columns
from abo_vqa.data.image_hashes import fill_hashes, hash_images
from abo_vqa.data.image_paths import ImageIndex
from abo_vqa.data.pairs import Product
from abo_vqa.data.questions import question_subtype

_COLUMNS = ("image_path", "question", "answer")


@dataclass
class OwnTable:
    """A user's own table, with images under the archive's names.

    Attributes:
        rows: the VQA table's columns.
        dropped: why an image is left out, by the table's name for it.
        dropped_rows: how many rows are left out with them.
        notes: which columns were used for what, and how many images were found.
    """

    rows: list[dict[str, str]]
    dropped: dict[str, str]
    dropped_rows: int
    notes: list[str]


def read_own_table(
    path: Path, archive: Archive, products: Sequence[Product], columns: Sequence[str]
) -> OwnTable:
    """Read a table with at least an image, a question and an answer; its rows stay as they are.

    Args:
        path: the table.
        archive: where the images are.
        products: the balanced table, which may hold some of the images.
        columns: provenance columns to fill in where the table doesn't have them.

    Raises:
        UserError: columns are missing, there are no rows, or none of the images is in the archive.
    """
    table = read_columns(path, _COLUMNS)
    if table.frame.empty:
        raise UserError(f"{path} has a header but no rows.")
    index = ImageIndex([*(product["image_path"] for product in products), *archive.image_paths()])
    match = index.match(table.frame["image_path"].tolist())
    match.require(str(archive.raw), index)
    unreadable = unreadable_images(archive, match.images)
    if len(unreadable) == len(match.images):
        example, reason = next(iter(unreadable.items()))
        raise UserError(
            f"{path}: none of its {match.total:,} images can be read from {archive.raw} "
            f"(e.g. {example}: {reason})."
        )
    dropped = dict.fromkeys(match.not_found, "not in the archive")
    dropped |= dict.fromkeys(match.ambiguous, "several images could be meant")
    dropped |= {
        name: unreadable[image] for name, image in match.found.items() if image in unreadable
    }
    records = table.frame.to_dict("records")
    readable = [
        {**{str(name): str(value) for name, value in row.items()}, "image_path": image}
        for row, image in zip(records, match.paths, strict=True)
        if image is not None and image not in unreadable
    ]
    rows = _with_hashes(_with_provenance(readable, products, columns), archive)
    notes = [table.describe(), *table.blank_warnings(), match.describe(str(archive.raw))]
    return OwnTable(rows, dropped, len(records) - len(readable), notes)


def _with_provenance(
    rows: Sequence[Mapping[str, str]], products: Sequence[Product], columns: Sequence[str]
) -> list[dict[str, str]]:
    """Add what the balanced table knows about the images where the table itself doesn't."""
    known = {product["image_path"]: product for product in products}
    return [
        {
            **{name: row[name] for name in _COLUMNS},
            **{n: row.get(n) or known.get(row["image_path"], {}).get(n, "") for n in columns},
            "question_kind": row.get("question_kind") or question_subtype(row["question"]),
            "annotator": row.get("annotator") or "file",
        }
        for row in rows
    ]


def _with_hashes(rows: Sequence[dict[str, str]], archive: Archive) -> list[dict[str, str]]:
    """Fill in missing hashes, so that duplicates are found among all images."""
    missing = {row["image_path"] for row in rows if not (row["image_sha1"] and row["phash"])}
    hashes = hash_images(sorted(missing), archive.read)
    filled = fill_hashes(pd.DataFrame(rows, dtype=object), hashes)
    return [{str(n): v for n, v in row.items()} for row in filled.to_dict("records")]
