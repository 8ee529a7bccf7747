"""What goes into MLflow under which name: settings, metrics, and how many points of a history."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abo_vqa.core.nested import flatten

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

# Sections of the configuration that concern a stage; every other stage logs its namesake.
_SECTIONS = {
    "baseline": "baselines",
    "finetune": "lora",
    "opinions": "verify",
    "predict": "ranking",
    "verifiers": "verify",
}
# What invocations are compared by: everything tuned that changes a result.
_COMPARED = (
    "compute", "curate", "generate", "verify", "split", "embed", "baselines", "lora", "ranking",
    "evaluate",
)  # fmt: skip
_LONG = 100  # characters: a longer text is a file of the run, not a cell of a table
_DENSE = 1280  # points of a history that are all kept; the chart in the browser shows 320


def stage_settings(stage: str, config: Config, checkpoint: str | None = None) -> dict[str, Any]:
    """Select the settings that concern a stage, flat: {"lora.r": 16, …}, without unset ones.

    Args:
        stage: the stage's name.
        config: all settings.
        checkpoint: the key under `models` of the weights it uses, None if it uses none.
    """
    name = stage.partition("@")[0]
    section = _SECTIONS.get(name, name)
    values = {"profile": config.profile, "seed": config.seed, "threads": config.threads}
    settings = getattr(config, section, None)
    if settings is not None:
        values |= flatten({section: settings.model_dump(mode="json")})
    if checkpoint is not None:
        weights = getattr(config.models, checkpoint).model_dump(mode="json")
        values |= flatten({"compute": config.compute.model_dump(mode="json")})
        values |= flatten({"models": {checkpoint: weights}})
    return {key: value for key, value in values.items() if value is not None}


def compared_settings(config: Config) -> dict[str, Any]:
    """Select the settings by which an invocation is compared with others.

    Args:
        config: all settings.
    """
    values: dict[str, Any] = {"profile": config.profile, "seed": config.seed}
    values["threads"] = config.threads
    for section in _COMPARED:
        values |= flatten({section: getattr(config, section).model_dump(mode="json")})
    return {key: value for key, value in values.items() if value is not None}


def split_long_values(values: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Convert values to text, without empty ones.

    Args:
        values: values by name.

    Returns:
        Those short enough for a parameter, and the long ones.
    """
    every = {key: str(value) for key, value in values.items() if str(value) != ""}
    short = {key: text for key, text in every.items() if len(text) <= _LONG}
    return short, {key: text for key, text in every.items() if key not in short}


def drop_known_params(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out values that are among the settings already: `path` next to `models.blip.path`.

    Args:
        values: the values.
        known: the settings.
    """
    repeated = {(key.rpartition(".")[2], str(value)) for key, value in known.items()}
    return {key: value for key, value in values.items() if (key, str(value)) not in repeated}


def metric_name(name: str) -> str:
    """Make a name that MLflow accepts: letters of any script, digits, `_-.:/` and blanks.

    Args:
        name: any name.
    """
    return re.sub(r"[^\w\-.:/ ]", "_", name)[:250]


class MetricDownsampler:
    """Decides which points of a history to keep: all at first, then every second, fourth, eighth.

    Of 13,640 points a metric keeps 3,400; one by epoch never loses any. Training's curves come as
    means over some steps, with fewer points than are thinned out.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def keeps(self, name: str) -> bool:
        """Count a point, and tell whether it is kept.

        Args:
            name: the metric's name.
        """
        at = self._counts[name]
        self._counts[name] += 1
        return at % (1 << (at // _DENSE).bit_length()) == 0
