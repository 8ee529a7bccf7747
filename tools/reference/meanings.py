"""What each setting means: the comments of params.yaml, and those of the classes that check it."""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path

from pydantic import BaseModel

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?P<value>.*?)(?:\s+#\s*(?P<comment>.*))?$")
_FIELD = re.compile(r"^ {4}(?P<name>\w+):.*?(?:\s#\s*(?P<comment>.*))?$")


@cache
def commented_settings(file: Path) -> dict[str, str]:
    """Return the comment behind each key of a YAML file, or above it, by its dotted path.

    Args:
        file: params.yaml, whose groups are one level deep.
    """
    comments: dict[str, str] = {}
    section = ""
    above: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = _KEY.match(line)
        if not match or line.lstrip().startswith("#"):
            above = [*above, line.strip().lstrip("# ")] if line.strip() else []
            continue
        if not match["indent"]:
            section = match["key"]
        path = match["key"] if not match["indent"] else f"{section}.{match['key']}"
        comments[path] = (match["comment"] or " ".join(above)).strip()
        above = []
    return comments


@cache
def commented_fields(schema: type[BaseModel]) -> dict[str, str]:
    """Return the comment behind each field of a class, or above it, and of its bases.

    Args:
        schema: a group of settings.
    """
    comments: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if not (issubclass(base, BaseModel) and base.__module__.startswith("abo_vqa")):
            continue
        above: list[str] = []
        for line in inspect.getsource(base).splitlines():
            if line.strip().startswith("#"):
                above.append(line.strip().lstrip("# "))
                continue
            match = _FIELD.match(line)
            text = (match["comment"] or " ".join(above)) if match else ""
            if match and text:
                comments[match["name"]] = text
            above = []
    return comments
