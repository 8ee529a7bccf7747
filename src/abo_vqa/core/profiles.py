"""Which sections belong in a profile, and profiles that are another one with some changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import read_utf8
from abo_vqa.core.yaml_files import read_yaml

PROFILE_ONLY = ("batch_sizes", "data", "models", "scorers")
"""Sections that only a profile has."""

COMPLETED = (
    "# ---- written by `abo-vqa profiles` from the profile above and its changes: edit those\n"
)
"""What separates a profile's own words from what it has of the profile that it extends."""


def misplaced(
    tuned: dict[str, Any], sources: dict[str, Any], params: Path, profile: Path
) -> list[str]:
    """Report sections that are in the wrong file, and remove them from `tuned`.

    Args:
        tuned: the content of params.yaml, changed in place.
        sources: the content of the profile, without its defaults.
        params: the path of the first, for messages.
        profile: the path of the second.

    Returns:
        The problems.
    """
    problems = []
    for key in sorted(set(tuned) & ({*PROFILE_ONLY} | set(sources))):
        if key in PROFILE_ONLY:
            problems.append(f"{key}: found in {params}; it belongs in {profile}")
            del tuned[key]
        else:
            problems.append(f"{key}: set in both {params} and {profile}; keep one")
    return problems


def read_profile(path: Path) -> dict[str, Any]:
    """Read a profile's settings.

    DVC compares the settings in a profile's own file, so one that extends another holds all of
    them; that they are the other's with its changes is checked here.

    Args:
        path: the profile.

    Raises:
        UserError: It isn't a mapping, extends something else than a profile, or isn't up to date.
    """
    settings = read_yaml(path)
    if "extends" not in settings and "changes" not in settings:
        return settings
    expected = _extended(path, settings)
    complete = {k: v for k, v in settings.items() if k not in ("extends", "changes")}
    if complete != expected:
        raise UserError(
            f"{path} extends the profile {settings['extends']}, and isn't that with its changes: "
            f"{_first_difference(complete, expected)}. `abo-vqa profiles` writes it anew; what is "
            f"to differ belongs under `changes`."
        )
    return complete


def base_profile(path: Path) -> str:
    """Return the name of the profile that one extends, else its own.

    Args:
        path: the profile.
    """
    return str(read_yaml(path).get("extends") or path.stem)


def complete_profile(path: Path) -> str:
    """Return the text that a profile which extends another should have; "" for others.

    Args:
        path: the profile.

    Raises:
        UserError: See `read_profile`; but it needn't be up to date.
    """
    settings = read_yaml(path)
    if "extends" not in settings and "changes" not in settings:
        return ""
    extended = _extended(path, settings)
    own = read_utf8(path).partition(COMPLETED)[0].rstrip("\n")
    if {*(yaml.safe_load(own) or {})} != {"extends", "changes"}:
        raise UserError(
            f"{path}: a profile with `extends` has that and `changes` of its own, and below the "
            f"line {COMPLETED.strip()!r} what `abo-vqa profiles` writes. Move what it changes "
            "under `changes`, and delete the rest."
        )
    rest = yaml.safe_dump(extended, sort_keys=False, width=100, allow_unicode=True)
    return f"{own}\n\n{COMPLETED}{rest}"


def _extended(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the profile that another extends, with that one's changes."""
    base, changes = settings.get("extends"), settings.get("changes")
    others = sorted(p.stem for p in path.parent.glob("*.yaml") if p != path)
    if base not in others:
        raise UserError(
            f"{path}: extends is {base!r}, which is no other profile; there are: "
            f"{', '.join(others) or 'none'}."
        )
    if not isinstance(changes, dict):
        raise UserError(
            f"{path}: changes is {changes!r}; it holds what differs from {base}, e.g. "
            "`changes: {defaults: {compute: {dtype: float16}}}`."
        )
    source = read_yaml(path.with_name(f"{base}.yaml"))
    if "extends" in source:
        raise UserError(
            f"{path} extends {base}, which extends {source['extends']}: name that one, and give "
            f"{path.stem} the changes of both."
        )
    extended: dict[str, Any] = _changed(source, changes)
    return extended


def _changed(settings: Any, changes: Any) -> Any:
    """Return settings with changes at any depth; a list or value replaces the whole."""
    if isinstance(settings, dict) and isinstance(changes, dict):
        keys = [*settings, *(key for key in changes if key not in settings)]
        return {
            key: _changed(settings.get(key), changes[key]) if key in changes else settings[key]
            for key in keys
        }
    return changes


def _first_difference(value: Any, expected: Any, key: str = "") -> str:
    """Name the first setting that differs, and both values."""
    if isinstance(value, dict) and isinstance(expected, dict):
        for name in [*expected, *(n for n in value if n not in expected)]:
            if name not in value or name not in expected or value[name] != expected[name]:
                return _first_difference(
                    value.get(name), expected.get(name), f"{key}.{name}" if key else str(name)
                )
    return f"{key} is {value!r} there, not {expected!r}"
