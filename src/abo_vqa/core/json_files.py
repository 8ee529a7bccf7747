"""JSON files: readable in a diff, with numbers that other machines reproduce."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write, read_utf8


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: the file.

    Returns:
        The parsed value.

    Raises:
        UserError: It is missing or isn't JSON in UTF-8.
    """
    try:
        return json.loads(read_utf8(Path(path)))
    except FileNotFoundError as error:
        raise UserError(f"no file at {path}. Run the stage that makes it.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} isn't valid JSON: {error}") from error


def write_json(value: Any, path: str | Path) -> Path:
    """Write JSON atomically, readable in a diff.

    Args:
        value: what to write.
        path: the file.

    Returns:
        The path.

    Raises:
        ValueError: A number is NaN or infinite, which JSON doesn't have.
    """
    with atomic_write(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def write_results(
    value: Any, path: str | Path, digits: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """Write results that git and people compare: numbers rounded to six decimals.

    Another processor adds up in another order: the digits that depend on it are left out.

    Args:
        value: the results.
        path: the file.
        digits: other formats for the numbers under certain keys: {"loss": ".3f", "lr": ".6g"}.

    Returns:
        The path.
    """
    return write_json(rounded(value, digits), path)


def rounded(value: Any, digits: Mapping[str, str] = MappingProxyType({}), form: str = ".6f") -> Any:
    """Round the floats in a JSON-like value, in dicts, lists and tuples too.

    Args:
        value: the value.
        digits: formats of the numbers under certain keys.
        form: the format of all others.
    """
    if isinstance(value, Mapping):
        return {key: rounded(item, digits, digits.get(key, form)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits, form) for item in value]
    # -0.0 is another text for the same number.
    return float(format(float(value), form)) + 0.0 if isinstance(value, float) else value
