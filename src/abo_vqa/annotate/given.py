"""An existing VQA table in place of generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import Archive
from abo_vqa.data.columns import read_columns
from abo_vqa.data.image_decoding import phash, sha1
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.image_paths import ImageIndex
from abo_vqa.data.pairs import Product
from abo_vqa.data.questions import question_subtype

_COLUMNS = ("image_path", "question", "answer")


@dataclass
class _Given:
    """A table of one's own, its pictures as the archive calls them.

    Attributes:
        rows: the VQA set's columns. lost: picture as the table calls it → why it is left out;
            lost_rows: how many rows that costs.
        notes: what was taken for what, and how many pictures were found.
    """

    rows: list[dict[str, str]]
    lost: dict[str, str]
    lost_rows: int
    notes: list[str]


def read_given(
    path: Path, archive: Archive, products: Sequence[Product], columns: Sequence[str]
) -> _Given:
    """Rows of a table with at least a picture, a question and an answer, as they are.

    Args:
        products: the balanced table, which knows some of the pictures.
        columns: provenance columns to fill in where the table doesn't have them.
    Raises:
        UserError: columns are missing, there are no rows, or not one picture is in the archive.
    """
    table = read_columns(path, _COLUMNS)
    if table.frame.empty:
        raise UserError(f"{path} has a header and no rows.")
    index = ImageIndex([*(product["image_path"] for product in products), *archive.pictures()])
    match = index.match(table.frame["image_path"].tolist())
    match.require(str(archive.raw), index)
    bad = unreadable(archive, match.pictures)
    if len(bad) == len(match.pictures):
        example, why = next(iter(bad.items()))
        raise UserError(
            f"{path}: none of its {match.total:,} pictures can be read from {archive.raw} "
            f"(e.g. {example}: {why})."
        )
    lost = dict.fromkeys(match.lost, "not in the archive")
    lost |= dict.fromkeys(match.unclear, "several pictures could be meant")
    lost |= {name: bad[picture] for name, picture in match.found.items() if picture in bad}
    records = table.frame.to_dict("records")
    kept = [
        {**{str(name): str(value) for name, value in row.items()}, "image_path": picture}
        for row, picture in zip(records, match.paths, strict=True)
        if picture is not None and picture not in bad
    ]
    rows = _with_hashes(_with_provenance(kept, products, columns), archive)
    notes = [table.describe(), *table.blanks(), match.describe(str(archive.raw))]
    return _Given(rows, lost, len(records) - len(kept), notes)


def _with_provenance(
    rows: Sequence[Mapping[str, str]], products: Sequence[Product], columns: Sequence[str]
) -> list[dict[str, str]]:
    """Add what the balanced table knows about the pictures, where the table doesn't say it."""
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
    """Fill in missing hashes: a picture at hand is never assumed to be unlike the others."""
    empty = {row["image_path"] for row in rows if not (row["image_sha1"] and row["phash"])}
    known: dict[str, dict[str, str]] = {}
    for path in sorted(empty):
        data = archive.read(path)
        known[path] = {"image_sha1": sha1(data), "phash": phash(data, path)}
    return [
        row | {n: row[n] or v for n, v in known.get(row["image_path"], {}).items()} for row in rows
    ]


def unreadable(archive: Archive, paths: Sequence[str]) -> dict[str, str]:
    """Pictures that can't be read, and why; decoded in threads, since Pillow lets them run."""
    from concurrent.futures import ThreadPoolExecutor

    from abo_vqa.core.progress import progress

    def problem(path: str) -> str:
        try:
            archive.image(path)
        except ImageError as error:
            return error.reason
        return ""

    with ThreadPoolExecutor() as pool:
        found = progress(
            pool.map(problem, paths), total=len(paths), desc="pictures", unit="picture"
        )
        return {path: why for path, why in zip(paths, found, strict=True) if why}


def counted(reasons: Sequence[str]) -> dict[str, Any]:
    """How often each reason occurs, most frequent first."""
    from collections import Counter

    counts = Counter(reasons)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
