"""JSON files: readable in a diff, with numbers that other machines reproduce."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    pass
from abo_vqa.core.files import atomic_write


def read_json(path: str | Path) -> Any:
    """Parse a JSON file; a missing or broken one is a UserError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no file at {path}. Run the stage that makes it.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} isn't valid JSON: {error}") from error


def write_json(value: Any, path: str | Path) -> Path:
    """Write JSON atomically, readable in a diff; NaN is refused (it isn't JSON)."""
    with atomic_write(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def write_results(
    value: Any, path: str | Path, digits: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """Write numbers that git and people compare, with six decimals unless `digits` says otherwise.

    Another processor sums in another order: what differs for that reason stays out of the file.

    Args:
        digits: how numbers under a key are written, as a format: {"loss": ".3f", "lr": ".6g"}.
    """
    return write_json(rounded(value, digits), path)


def rounded(value: Any, digits: Mapping[str, str] = MappingProxyType({}), form: str = ".6f") -> Any:
    """A JSON-like value with its floats rounded, in dicts, lists and tuples too.

    Args:
        digits: formats for what is under certain keys; form: the others' format.
    """
    if isinstance(value, Mapping):
        return {key: rounded(item, digits, digits.get(key, form)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits, form) for item in value]
    # -0.0 is another text for the same number.
    return float(format(float(value), form)) + 0.0 if isinstance(value, float) else value
