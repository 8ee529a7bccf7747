"""The model card names what was fine-tuned, and with which seed; the others who wrote questions."""

from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pandas as pd
import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.service_config import PROTOCOLS, GenerateConfig
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


def _annotators() -> list[str]:
    """Every value that generate.annotator takes, of nested choices too."""
    choices = list(get_args(get_type_hints(GenerateConfig)["annotator"]))
    while nested := [c for c in choices if not isinstance(c, str)]:
        choices = [c for c in choices if isinstance(c, str)]
        choices += [c for n in nested for c in get_args(n)]
    return choices


def test_the_annotators_are_all_here() -> None:
    assert {"offline", "local", "file", *PROTOCOLS} <= set(_annotators())


@pytest.mark.parametrize("annotator", _annotators())
def test_every_annotator_has_a_sentence_that_names_it(annotator) -> None:
    config = load_config()
    named = {"annotator": annotator, "model": "llava", "file": Path("mine/pairs.csv")}
    changed = config.model_copy(update={"generate": config.generate.model_copy(update=named)})
    names = {"offline": "catalogue", "file": "mine/pairs.csv", "local": "models/sample/llava"}
    assert names.get(annotator, "llava") in cards._question_source(changed)
