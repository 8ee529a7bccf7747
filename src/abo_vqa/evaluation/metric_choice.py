"""Select a table's metrics; the neural ones need a model, which may be only the sample's toy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.devices import pick_device
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import SAMPLE_MODELS
from abo_vqa.evaluation.pair_scores import METRIC_NAMES
from abo_vqa.evaluation.table_scores import score_table

if TYPE_CHECKING:
    import pandas as pd

    from abo_vqa.core.config import Config

METRIC_CHOICES = ("accuracy", *(name for name in METRIC_NAMES if name != "bertscore_f1_rescaled"))
TOYS_LEFT_OUT = (
    "left out: BERTScore and BARTScore, for which there are only the sample's toy encoders "
    "here (scorers in the profile; or ask for them with --metrics)"
)
"""What is said where `toy_metrics` aren't computed."""
_ALWAYS = ("exact_match", "f1")  # what an evaluation of models needs
_REFERENCE_ENCODERS = {"bertscore": "roberta-large", "bartscore": "bart-large-cnn"}


def scorer_name(metric: str, config: Config) -> str:
    """Return the model behind a metric, in words; "" for a metric that needs none.

    Args:
        metric: the metric's name.
        config: the settings, which name the models.
    """
    scorer = _scorer_of(metric)
    if not scorer:
        return ""
    path = str(getattr(config.scorers, scorer).path)
    return (
        f"toy encoder {path}, not {_REFERENCE_ENCODERS[scorer]}"
        if _is_toy(metric, config)
        else path
    )


def _scorer_of(metric: str) -> str:
    """Return the neural metric's setting below `scorers`, "" for the others."""
    return next((scorer for scorer in _REFERENCE_ENCODERS if metric.startswith(scorer)), "")


def group_by_scorer(metrics: Sequence[str]) -> dict[str, list[str]]:
    """Group metrics by the model that they need.

    Args:
        metrics: their names.

    Returns:
        "" and each neural metric's setting below `scorers` → its metrics, those without a model
        first; groups without a metric are left out.
    """
    groups = {
        scorer: [name for name in metrics if _scorer_of(name) == scorer]
        for scorer in ("", *_REFERENCE_ENCODERS)
    }
    return {scorer: names for scorer, names in groups.items() if names}


def _is_toy(metric: str, config: Config) -> bool:
    """Tell whether a metric's model is one of the embedded sample's."""
    scorer = _scorer_of(metric)
    if not scorer:
        return False
    path = Path(getattr(config.scorers, scorer).path)
    return path.absolute().is_relative_to(SAMPLE_MODELS.absolute())


def toy_metrics(config: Config) -> list[str]:
    """List the metrics for which there are only the sample's toy models.

    Args:
        config: the settings.
    """
    return [name for name in METRIC_CHOICES if _is_toy(name, config)]


def choose_metrics(text: str | None, config: Config) -> list[str]:
    """Select metrics.

    Args:
        text: their names, with commas; None for all but those of toy models.
        config: the settings.

    Raises:
        UserError: A name isn't known, or there is none.
    """
    if text is None:
        toys = toy_metrics(config)
        return [name for name in METRIC_CHOICES if name not in toys]
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METRIC_CHOICES]
    if unknown or not names:
        wrong = f"there is no metric {', '.join(unknown)}" if unknown else "no metric is named"
        raise UserError(f"--metrics {text!r}: {wrong}. There are: {', '.join(METRIC_CHOICES)}.")
    return [name for name in METRIC_CHOICES if name in names]


def evaluation_metrics(chosen: Sequence[str]) -> list[str]:
    """Return the metrics of an evaluation of models, given those that a user has chosen.

    Args:
        chosen: names of `METRIC_CHOICES`.

    Returns:
        Names for `results.evaluate`: those that it needs are added, and BERTScore's F1 comes
        rescaled too.
    """
    wanted = {*_ALWAYS, *chosen}
    if "bertscore_f1" in wanted:
        wanted.add("bertscore_f1_rescaled")
    return ["alias_accuracy", *(name for name in METRIC_NAMES if name in wanted)]


def score_metrics(
    rows: pd.DataFrame, metrics: Sequence[str], config: Config, *, required: bool
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Score a table.

    Args:
        rows: answer, prediction, error.
        metrics: names of `METRIC_CHOICES`.
        config: the settings.
        required: whether a model that can't be used is an error; else its metrics are left out.

    Returns:
        One column of scores per metric, the metrics' signatures, and why metrics were left out.

    Raises:
        UserError: A required model can't be used.
    """
    if not any(map(_scorer_of, metrics)):
        return *score_table(rows, metrics, config), []
    device = str(pick_device(config.compute.device))
    if required:
        return *score_table(rows, metrics, config, device), []
    groups = group_by_scorer(metrics)
    scored, signature = score_table(rows, groups.pop("", []), config)
    notes = []
    for own in groups.values():
        try:
            columns, signatures = score_table(rows, own, config, device)
        except UserError as error:
            notes.append(f"left out: {', '.join(own)}: {error}")
            continue
        scored, signature = scored.join(columns), signature | signatures
    return scored, signature, notes
