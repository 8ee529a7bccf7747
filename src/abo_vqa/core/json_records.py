"""Records in JSON and JSON Lines files, as people and data sets write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.files import decode_text

_MAX_BYTES = 1 << 30  # parsed JSON takes several times its size


def load_json_records(path: Path) -> Any:
    """Parse a JSON file, or each line of a JSON Lines file.

    Args:
        path: the file; its suffix says which.

    Raises:
        UserError: It is too large, nested too deeply, or isn't JSON in UTF-8 or UTF-16.
    """
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise UserError(
            f"{path} has {size >> 20:,} MiB; JSON is read up to {_MAX_BYTES >> 20:,} MiB. "
            "Save the table as CSV or Parquet, without the images themselves."
        )
    try:
        text = decode_text(path.read_bytes())
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} isn't UTF-8 text ({error.reason} at byte {error.start}). Save it in UTF-8."
        ) from error
    try:
        if path.suffix.lower() == ".jsonl":
            return [_parse(line) for line in text.split("\n") if line.strip()]
        return _parse(text)
    except json.JSONDecodeError as error:
        lines = " If each line is a record, name it .jsonl." if error.msg == "Extra data" else ""
        raise UserError(f"{path} isn't valid JSON: {error}.{lines}") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON: {first_line(error)}.") from error


def _parse(text: str) -> Any:
    """Parse JSON; NaN, which pandas writes for an empty cell, is null."""
    return json.loads(text, parse_constant=lambda _: None)
