"""What the run's results say of the exported set, if dvc.lock knows that they are its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import EVALUATION, METRICS, TEST, TRAIN
from abo_vqa.reporting.ceiling import ceiling_sentence
from abo_vqa.reporting.circularity import circularity_notes, marked_models
from abo_vqa.reporting.provenance import matching_lock_entry

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


def blind_test_accuracy() -> dict[str, float]:
    """Return the accuracy of the blind baselines, if this very test set has been evaluated.

    `reports/metrics.json` is in git and may belong to another set: dvc.lock knows.
    """
    if not matching_lock_entry("evaluate", TEST, METRICS):
        return {}
    metrics = read_json(METRICS)
    return {m: values["accuracy"] for m, values in metrics.items() if m.startswith("blind-")}


def ceiling_of_test(reviews: Mapping[str, Any] | None) -> str:
    """Return how much of the test set can be right at most, or why that isn't known.

    Args:
        reviews: `reviews` of data/verification.json.

    Returns:
        A sentence; "" if nobody has reviewed the answers, or this test set hasn't been evaluated.
    """
    if not reviews or not matching_lock_entry("evaluate", TEST, EVALUATION):
        return ""
    return ceiling_sentence(read_json(EVALUATION).get("ceiling"), reviews)


def split_settings(config: Config) -> dict[str, Any]:
    """Return the split's group, test_size and seed.

    They are those in dvc.lock if it knows this split, else those in params.yaml.
    """
    entry = matching_lock_entry("split", TRAIN, TEST) or {}
    recorded = entry.get("params", {}).get("params.yaml", {})
    settings = {**config.split.model_dump(), **recorded.get("split", {})}
    return {**settings, "seed": recorded.get("seed", config.seed)}


def circular_biases(config: Config, verification: Mapping[str, Any]) -> list[str]:
    """Return for which models the set isn't a fair test, because they had a part in making it.

    Args:
        config: the settings.
        verification: the content of data/verification.json.
    """
    models = [*verification.get("verifiers", {}), *config.baselines.models]
    parts = marked_models(config, dict.fromkeys(models), verification)
    return circularity_notes(parts, verification, mark="")
