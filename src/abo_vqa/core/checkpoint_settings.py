"""Which settings of `models.<name>` a family takes; the others are refused by `load_config`.

A setting without any effect would be worse than an error: a study of it would compare equals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from abo_vqa.core.paths import FINETUNED_MODELS

_LANGUAGE_MODEL = ("prompt", "max_new_tokens", "answer", "decoding", "quantize", "device_map")
_TAKEN = {
    # The question alone is BLIP's prompt; its attention here runs on one device, so that
    # `device_map` is refused where there are several.
    "blip": ("max_new_tokens", "decoding", "quantize", "device_map"),
    "blip2": _LANGUAGE_MODEL,
    "chat": _LANGUAGE_MODEL,
    "clip": ("prompt", "architecture"),  # always ranks, among the candidates of its regime
    "endpoint": ("prompt", "answer"),  # and those of `EndpointConfig`
    "llava": _LANGUAGE_MODEL,
    "prefix": _LANGUAGE_MODEL,
    "vilt": ("decoding", "quantize", "device_map"),  # it chooses among a fixed list of answers
}
"""Family → its settings besides those of every family (path, revision, dtype, batch size)."""
_DEFAULTS = {"prompt": "{question}", "max_new_tokens": 10, "answer": "whole", "decoding": "free"}
# Each batch waits for its slowest row, which may have to be asked again: few and large ones. What
# is answered is in the endpoint's own journal before the batch ends.
_ENDPOINT_BATCH = 1024
_ENDPOINT_PROMPT = "Answer the question about the image with one word.\n{question}"
_SPECIFIC = sorted({setting for taken in _TAKEN.values() for setting in taken})
# A name is a folder's and part of a DVC stage's; DVC finds its settings as `models.<name>`, where a
# dot would be another level.
_NAME = re.compile(r"\w[\w-]*")
# These mean models without weights of their own.
_RESERVED = re.compile("|".join(["blind.*", "clip-.*", *FINETUNED_MODELS]))
_PLACEHOLDER = re.compile(r"{\w+}")


def takes_setting(family: str, setting: str) -> bool:
    """Return whether a family takes a setting that not every family takes.

    Args:
        family: its name.
        setting: the setting's.
    """
    return setting in _TAKEN.get(family, ())


def check_models(sources: dict[str, Any]) -> list[str]:
    """Give each model its family, and look for settings that the family doesn't take.

    Args:
        sources: a profile; `models.<name>.family` is set where a model is called like its family.

    Returns:
        What is wrong: a name that can't be a folder's or means something else, a model without a
        family, a stage's model of another family, a setting that the family doesn't take, a prompt
        that can't be filled in.
    """
    models = sources.get("models")
    if not isinstance(models, dict):
        return []
    problems: list[str] = []
    for name, entry in models.items():
        problems += _name_problems(str(name))
        if isinstance(entry, dict):
            problems += _family_problems(name, entry)
            problems += _endpoint_problems(name, entry)
            problems += _setting_problems(name, entry)
            problems += _prompt_problems(name, entry)
    return problems


def _name_problems(name: str) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield f"models.{name}: a name may have letters, digits, '_' and '-', no others"
    elif hasattr(BaseModel, name):  # it would be found instead of the model
        yield f"models.{name}: this name is taken by the code that reads settings; choose another"
    elif _RESERVED.fullmatch(name):
        yield (
            f"models.{name}: this name has a meaning already (the fine-tuned model, a blind "
            "baseline, or one of CLIP's regimes); choose another"
        )


def _family_problems(name: str, entry: dict[str, Any]) -> Iterator[str]:
    if name in _TAKEN:
        entry.setdefault("family", name)
    if "family" not in entry:
        yield f"models.{name}.family: no value; allowed: {', '.join(_TAKEN)}"
    # `embed` always computes the vision outputs of `blip`; clip-fixed, clip-train and clip-all are
    # regimes of `clip`.
    elif name in ("blip", "clip") and entry["family"] != name:
        yield f"models.{name}.family: found {entry['family']!r}; this model's must be {name}"


def _endpoint_problems(name: str, entry: dict[str, Any]) -> Iterator[str]:
    """Move an endpoint's settings into a group of their own; it has no weights."""
    if entry.get("family") != "endpoint" or "endpoint" in entry:
        return
    for setting in ("path", "revision", "dtype"):
        if entry.pop(setting, None) is not None:
            yield f"models.{name}.{setting}: an endpoint has no weights; remove it"
    shared = ("family", "batch_size", *_SPECIFIC)
    settings = {key: entry.pop(key) for key in list(entry) if key not in shared}
    entry.setdefault("prompt", _ENDPOINT_PROMPT)
    entry.setdefault("batch_size", _ENDPOINT_BATCH)
    entry |= {"endpoint": settings, "path": str(settings.get("model", ""))}


def _setting_problems(name: str, entry: dict[str, Any]) -> Iterator[str]:
    """Report settings that the family doesn't take, unless they are at their defaults."""
    family = entry.get("family")
    if family not in _TAKEN:  # reported already
        return
    if entry.get("decoding") == "ranked":
        for setting in ("answer", "max_new_tokens"):
            if entry.get(setting, _DEFAULTS[setting]) != _DEFAULTS[setting]:
                yield (
                    f"models.{name}.{setting}: found {entry[setting]!r}, which has no effect with "
                    "decoding: ranked; remove one of them"
                )
    for setting in _SPECIFIC:
        if setting in _TAKEN[family] or entry.get(setting) == _DEFAULTS.get(setting):
            continue
        if setting in entry:
            families = [other for other, taken in _TAKEN.items() if setting in taken]
            yield (
                f"models.{name}.{setting}: found {entry[setting]!r}, and the family {family} "
                f"doesn't take this setting; remove it (families that do: {', '.join(families)})"
            )


def _prompt_problems(name: str, entry: dict[str, Any]) -> Iterator[str]:
    """Report a prompt without the question, or with a placeholder that isn't filled in."""
    prompt, family = entry.get("prompt"), str(entry.get("family"))
    if not isinstance(prompt, str) or "prompt" not in _TAKEN.get(family, ()):
        return
    allowed = ["{question}", "{candidate}"] if family == "clip" else ["{question}"]
    placeholders = _PLACEHOLDER.findall(prompt)
    for word in placeholders:
        if word not in allowed:
            yield f"models.{name}.prompt: found {word}; filled in: {' and '.join(allowed)}"
    if "{question}" not in placeholders:
        yield f"models.{name}.prompt: found {prompt!r}, which lacks {{question}}"
    elif "{candidate}" in placeholders[: placeholders.index("{question}")]:
        yield f"models.{name}.prompt: found {prompt!r}; {{candidate}} has to follow {{question}}"
