"""Pydantic's errors about settings, rewritten so that they are easy to fix."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from pydantic import BaseModel

from abo_vqa.core.config_base import SECRET
from abo_vqa.core.profiles import PROFILE_ONLY

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def describe_validation_errors(
    details: Sequence[ErrorDetails], schema: type[BaseModel], profile: Path
) -> list[str]:
    """Describe problems, each in a line: where, what was found, what is allowed.

    A misspelt setting is one problem: that the right one has no value follows from it.

    Args:
        details: what pydantic knows of each.
        schema: the model that the settings don't fit.
        profile: the file with the defaults.
    """
    meant = {
        (*detail["loc"][:-1], close)
        for detail in details
        if detail["type"] == "extra_forbidden" and (close := _close_key(detail["loc"], schema))
    }
    return [
        _describe(detail, schema, profile)
        for detail in details
        if detail["loc"] not in meant or not _lacks_value(detail)
    ]


def _close_key(location: tuple[int | str, ...], schema: type[BaseModel]) -> str | None:
    """Return the setting that a misspelt one probably means."""
    close = get_close_matches(str(location[-1]), _known_keys(location[:-1], schema), n=1)
    return close[0] if close else None


def _lacks_value(detail: ErrorDetails) -> bool:
    return detail["type"] == "missing" or detail["input"] is None


def _describe(detail: ErrorDetails, schema: type[BaseModel], profile: Path) -> str:
    """Describe one problem in a line."""
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        close = _close_key(detail["loc"], schema)
        known = ", ".join(_known_keys(detail["loc"][:-1], schema))
        hint = f"did you mean {close}?" if close else f"known: {known}"
        return f"{where}: unknown setting; {hint}"
    value = detail["input"]
    if _lacks_value(detail):
        if detail["loc"] and detail["loc"][0] in PROFILE_ONLY:
            return f"{where}: no value; set it in {profile}"
        return f"{where}: no value; set it in params.yaml, or under defaults in {profile}"
    message = detail["msg"].removeprefix("Value error, ")
    if not where:
        return message
    if detail["type"] == SECRET or (detail["type"] == "value_error" and isinstance(value, dict)):
        return f"{where}: {message}"  # of a whole group only some settings matter
    if detail["type"] == "model_type":
        return f"{where}: found {value!r}; input should be a group of settings, as name: value"
    return f"{where}: found {value!r}; {message[0].lower()}{message[1:]}"


def _known_keys(location: tuple[int | str, ...], schema: type[BaseModel]) -> list[str]:
    """List the settings that exist at a place in the configuration."""
    section: Any = schema
    for part in location:
        field = section.model_fields.get(str(part))
        # Names that users choose, e.g. a model's, are no fields: all have one type.
        annotation = field.annotation if field else get_type_hints(section)["__pydantic_extra__"]
        options = [annotation, *get_args(annotation)]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return [field.alias or name for name, field in section.model_fields.items()]
