"""YAML files of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import read_utf8


def fill_nulls(params: Any, defaults: Any) -> Any:
    """Replace every null and every missing key by the default, at any depth.

    Args:
        params: the settings.
        defaults: the defaults.
    """
    if params is None:
        return defaults
    if isinstance(params, dict) and isinstance(defaults, dict):
        keys = list(params) + [key for key in defaults if key not in params]
        return {key: fill_nulls(params.get(key), defaults.get(key)) for key in keys}
    return params


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Args:
        path: the file.

    Raises:
        UserError: It is missing, isn't YAML in UTF-8, or holds something else.
    """
    try:
        value = yaml.safe_load(read_utf8(path))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} doesn't exist in {Path.cwd()}. Run from the repository's root."
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} isn't valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} must be a mapping of settings, found {type(value).__name__}.")
    return value
