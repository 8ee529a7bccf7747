"""The model card names what was fine-tuned, and with which seed."""

from types import SimpleNamespace

import pandas as pd
import pytest

from abo_vqa.core.config import load_config
from abo_vqa.reporting import cards


@pytest.fixture
def results():
    """results({"model": "llava"}): as far as the card reads them."""
    config = load_config()

    def of(lora):
        changed = config.model_copy(update={"lora": config.lora.model_copy(update=lora)})
        metrics = {"finetuned": {"accuracy": 0.5}}
        return SimpleNamespace(
            config=changed, metrics=metrics, primary_model="finetuned", train=pd.DataFrame()
        )

    return of


@pytest.mark.parametrize("model", ["blip", "llava"])
def test_the_base_is_the_one_that_was_fine_tuned(results, model) -> None:
    found = results({"model": model})
    assert f"base_model: models/sample/{model}\n" in cards._model_front_matter(found)
    assert dict(cards._model_facts(found))["base"] == f"`models/sample/{model}`"


def test_the_seed_of_training_is_named_where_it_is_another(results) -> None:
    assert dict(cards._model_facts(results({})))["seed"] == "42"
    assert dict(cards._model_facts(results({"seed": 7})))["seed"] == "42, in training 7"
