"""The reference of all settings: key, type, allowed values, defaults, meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import BaseModel

from abo_vqa.core.config import Config
from abo_vqa.core.profiles import PROFILE_ONLY
from abo_vqa.core.service_config import _ENDPOINT_DEFAULTS
from reference.meanings import commented_fields, commented_settings

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
PROFILES = ("sample", "abo")
_BOUNDS = {
    "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
}  # fmt: skip
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}


@dataclass(frozen=True)
class Setting:
    """One key of params.yaml or of a profile.

    Attributes:
        key: its dotted path; `<name>` where a user chooses the name.
        allowed: its type, and the values or range that are allowed.
        default: its value in params.yaml, or the class's; None if it has none.
        profiles: what each profile has instead of null.
        meaning: what it does.
    """

    key: str
    allowed: str
    default: Any
    profiles: dict[str, Any]
    meaning: str


def all_settings() -> dict[str, list[Setting]]:
    """Return the settings by section, in the order of params.yaml, the profile's own last."""
    schema = Config.model_json_schema()
    tuned = _read(PARAMS)
    sections: dict[str, list[Setting]] = {"": []}
    for name in [*tuned, *(name for name in Config.model_fields if name not in tuned)]:
        part = schema["properties"][name]
        kind = _class_of(Config, name)
        if kind is None:
            sections[""].append(_setting(name, part, schema, tuned, None))
        elif name == "models":
            sections[name] = list(_checkpoint(schema))
        else:
            sections[name] = list(_group(name, kind, schema, tuned))
    return sections


@cache
def _read(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def _group(
    path: str, kind: type[BaseModel], schema: dict[str, Any], tuned: dict[str, Any]
) -> Iterator[Setting]:
    properties = _resolve({"$ref": f"#/$defs/{kind.__name__}"}, schema)["properties"]
    for field, part in properties.items():
        inner = _class_of(kind, field)
        if inner is None:
            yield _setting(f"{path}.{field}", part, schema, tuned, kind)
        else:
            yield from _group(f"{path}.{field}", inner, schema, tuned)


def _checkpoint(schema: dict[str, Any]) -> Iterator[Setting]:
    """The settings of one model; those of an endpoint stand beside the others in a profile."""
    kind = get_args(get_type_hints(_class_of(Config, "models"))["__pydantic_extra__"])[1]
    for setting in _group("models.<name>", kind, schema, {}):
        yield Setting(**vars(setting) | {"key": setting.key.replace(".endpoint.", ".")})


def _class_of(kind: type[BaseModel], field: str) -> type[BaseModel] | None:
    by_alias = {info.alias or name: info for name, info in kind.model_fields.items()}
    annotation = by_alias[field].annotation
    options = [annotation, *get_args(annotation)]
    classes = (o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return next(classes, None)


def _setting(
    key: str, part: dict[str, Any], schema: dict[str, Any], tuned: dict[str, Any],
    kind: type[BaseModel] | None,
) -> Setting:  # fmt: skip
    *groups, name = key.split(".")
    default: Any = tuned
    for group in groups:
        default = default.get(group, {}) if isinstance(default, dict) else {}
    default = default.get(name, part.get("default"))
    own = commented_settings(PARAMS)
    fields = commented_fields(kind) if kind else {}
    # An endpoint's settings are those of the annotator, where they aren't explained themselves.
    meaning = own.get(key) or fields.get(name) or fields.get("service" * (name == "protocol"))
    meaning = meaning or ("endpoint" in groups and own.get(f"generate.{name}")) or ""
    if "endpoint" in groups:
        default = _ENDPOINT_DEFAULTS.get(name, default)
    return Setting(key, describe_type(part, schema), default, _profile_values(key), meaning)


def _profile_values(key: str) -> dict[str, Any]:
    """What the profiles say under `defaults`, or at the place of a key of their own."""
    values = {}
    for profile in PROFILES:
        content = _read(ROOT / f"conf/profiles/{profile}.yaml")
        value = content if key.split(".")[0] in PROFILE_ONLY else content["defaults"]
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            values[profile] = value
    return values


def _resolve(part: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    return part if reference is None else schema["$defs"][reference.rsplit("/", 1)[1]]


def describe_type(part: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return a setting's type and range in words, from its JSON schema.

    Args:
        part: the setting's.
        schema: the whole one, for references.
    """
    part = _resolve(part, schema)
    if "anyOf" in part:
        return " or ".join(describe_type(option, schema) for option in part["anyOf"])
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    kind = part.get("type", "")
    if kind == "array":
        return f"list of {describe_type(part.get('items', {}), schema)}"
    if kind == "object":
        return f"name: {describe_type(part.get('additionalProperties', {}), schema)}"
    if kind == "null":
        return "`null`"
    text = "path" if part.get("format") == "path" else _TYPES.get(kind, kind)
    bounds = [words.format(f"{part[k]:,}") for k, words in _BOUNDS.items() if k in part]
    return " ".join([text, " and ".join(bounds)]).strip()
