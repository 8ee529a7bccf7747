"""What goes into each stage and what comes out of it, from dvc.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from abo_vqa.core.profiles import PROFILE_ONLY
from reference.settings import Setting, all_settings
from reference.tables import as_yaml, markdown_table, plain_text

ROOT = Path(__file__).parents[2]
_HEADER = ["setting", "allowed", "default", "meaning"]


def stage_names() -> list[str]:
    """Return the names of the stages in dvc.yaml, in their order."""
    return list(_pipeline())


@cache
def _pipeline() -> dict[str, dict[str, Any]]:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return dict(content["stages"])


def stage_section(name: str) -> str:
    """Return a stage's command, inputs, outputs and settings.

    Args:
        name: the stage's.
    """
    stage = _pipeline()[name]
    body = stage.get("do", stage)
    sources = [path for path in _paths(body["deps"]) if path.startswith("src/")]
    files = [path for path in _paths(body["deps"]) if not path.startswith("src/")]
    outs = [f"`{path}`" for path in _paths(body.get("outs", []))]
    metrics = [f"`{path}` (a DVC metric)" for path in _paths(body.get("metrics", []))]
    facts = {
        "Reads": ", ".join(f"`{path}`" for path in files),
        "Writes": ", ".join([*outs, *metrics]),
        "Runs again if": _triggers(body),
        "Code": ", ".join(f"`{path}`" for path in sources),
        "DVC runs": f"`{body['cmd']}`",
    }
    listed = "\n".join(f"- **{fact}** {text}" for fact, text in facts.items())
    does = plain_text(str(body.get("desc", "")))
    return f"{does and does[0].upper() + does[1:] + '.'}\n\n{listed}\n\n{_settings_of(body)}"


def _paths(entries: list[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def _triggers(body: dict[str, Any]) -> str:
    own = [entry for entry in body.get("params", []) if isinstance(entry, str)]
    profile = [
        key for entry in body.get("params", []) if isinstance(entry, dict)
        for keys in entry.values() for key in keys
    ]  # fmt: skip
    parts = ["something that it reads, or its code, changes"]
    if own:
        parts.append("of `params.yaml`: " + ", ".join(f"`{key}`" for key in own))
    if profile:
        parts.append("of the profile: " + ", ".join(f"`{key}`" for key in profile))
    return "; ".join(parts)


def _settings_of(body: dict[str, Any]) -> str:
    keys = [entry for entry in body.get("params", []) if isinstance(entry, str)]
    used = [
        setting for group in all_settings().values() for setting in group
        if any(setting.key == key or setting.key.startswith(f"{key}.") for key in keys)
    ]  # fmt: skip
    if not used:
        return "It depends on no setting of `params.yaml`.\n"
    return settings_table(used)


def settings_table(settings: list[Setting]) -> str:
    """Return settings as a table.

    Args:
        settings: in the order of the rows.
    """
    return markdown_table(_HEADER, [_row(setting) for setting in settings])


def _row(setting: Setting) -> tuple[str, ...]:
    default = as_yaml(setting.default)
    if setting.key.split(".")[0] not in PROFILE_ONLY and setting.profiles:
        values = [f"{name}: {as_yaml(value)}" for name, value in setting.profiles.items()]
        default = f"{default} ({', '.join(values)})"
    elif setting.default is None and setting.key.split(".")[0] in PROFILE_ONLY:
        default = ""
    return f"`{setting.key}`", setting.allowed, default, plain_text(setting.meaning)


def settings_page() -> str:
    """Return a section for each group of settings."""
    parts = []
    for name, settings in all_settings().items():
        title = f"`{name}`" if name else "The run"
        parts += [f"### {title}", "", settings_table(settings)]
    return "\n".join(parts)
