"""An existing VQA table in place of generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abo_vqa.archive import Archive, ImageError
from abo_vqa.errors import UserError
from abo_vqa.generate.pairs import Product
from abo_vqa.io import read_table
from abo_vqa.questions import question_subtype

COLUMNS = ("image_path", "question", "answer")


def read_given(path: Path) -> list[dict[str, str]]:
    """Rows of a table with at least the study's three columns, exactly as they are.

    Raises:
        UserError: columns are missing, or there are no rows.
    """
    table = read_table(path, COLUMNS)
    if table.empty:
        raise UserError(f"{path} has a header and no rows.")
    rows = table.to_dict("records")
    return [{str(name): str(value) for name, value in row.items()} for row in rows]


def with_provenance(
    rows: Sequence[Mapping[str, str]], products: Sequence[Product], columns: Sequence[str]
) -> list[dict[str, str]]:
    """Add what the balanced table knows about the pictures, where the table doesn't say it."""
    known = {product["path"]: product for product in products}
    return [
        {
            **{name: row[name] for name in COLUMNS},
            **{n: row.get(n) or known.get(row["image_path"], {}).get(n, "") for n in columns},
            "question_kind": row.get("question_kind") or question_subtype(row["question"]),
            "annotator": row.get("annotator") or "file",
        }
        for row in rows
    ]


def unreadable(archive: Archive, paths: Sequence[str]) -> dict[str, str]:
    """Pictures that can't be read, and why; decoded in threads, since Pillow lets them run."""
    from concurrent.futures import ThreadPoolExecutor

    from abo_vqa.io import progress

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
