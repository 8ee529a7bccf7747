"""Which models the report's sentences are about."""

import pandas as pd

from abo_vqa.core.config import CheckpointConfig, load_config
from abo_vqa.reporting.inputs import Results

ACCURACIES = {
    "finetuned": 0.7,
    "blip-ranked": 0.6,
    "blip": 0.3,
    "clip-train": 0.2,
    "blind-type": 0.1,
}


def results(decoding: str) -> Results:
    config, empty = load_config(), pd.DataFrame()
    ranked = CheckpointConfig(path="models/sample/blip", family="blip", decoding=decoding)
    models = type(config.models)(**{**dict(config.models), "blip-ranked": ranked})
    return Results(
        config=config.model_copy(update={"models": models}),
        metrics={model: {"accuracy": value} for model, value in ACCURACIES.items()},
        evaluation={}, scores={}, training={}, funnel={}, generate={}, verification={}, audit={},
        types=empty, balanced=empty, train=empty, test=empty,
    )  # fmt: skip


def test_a_model_that_was_told_trains_answers_isnt_zero_shot() -> None:
    assert results("ranked").zero_shot == ["blip", "clip-train"]
    assert results("ranked").best_zero_shot == "blip"
    assert results("free").best_zero_shot == "blip-ranked"
