"""Where LoRA is put: by default, where it is asked for, and on the vision part if it is meant."""

from types import SimpleNamespace

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.core.trainable import LORA_TARGETS
from abo_vqa.training.lora import add_lora, trains_vision

TOWER = "model.vision_tower.encoder.layers.0.self_attn.q_proj"


def put(vqa, *targets):
    """The layers with LoRA, and the pattern of those that were left out."""
    settings = SimpleNamespace(
        r=4, alpha=8, dropout=0.0, rslora=False, dora=False, targets=targets,
        gradient_checkpointing=False,
    )  # fmt: skip
    model, layers = add_lora(SimpleNamespace(vqa=vqa), settings)
    return layers, model.peft_config["default"].exclude_modules


@pytest.mark.parametrize("name", ["blip2", "llava", "chat"])
def test_the_default_is_the_language_models_queries_and_values(load, name):
    vqa = load(name)
    layers, _ = put(vqa, *LORA_TARGETS[name])
    assert {layer.rpartition(".")[2] for layer in layers} == {"q_proj", "v_proj"}
    assert len(layers) == 4  # of two layers
    assert not trains_vision(layers, vqa.vision_modules)


def test_blips_targets_need_no_exclusion(load):
    """So that its adapters are described as ever."""
    vqa = load("blip")
    layers, excluded = put(vqa, *LORA_TARGETS["blip"])
    assert excluded is None
    assert len(layers) == 16
    assert not trains_vision(layers, vqa.vision_modules)


def test_a_target_that_only_the_vision_part_has_is_meant(load):
    vqa = load("blip")
    layers, _ = put(vqa, "qkv")
    assert trains_vision(layers, vqa.vision_modules)
    vqa = load("llava")
    layers, _ = put(vqa, "q_proj", "out_proj")  # the language model has o_proj
    assert {layer.rpartition(".")[2] for layer in layers if "vision_tower" in layer} == {"out_proj"}
    assert sum(layer.endswith("q_proj") for layer in layers) == 2


def test_a_full_name_is_meant(load):
    vqa = load("llava")
    layers, _ = put(vqa, TOWER, "v_proj")
    assert [layer for layer in layers if "vision_tower" in layer] == [TOWER]
    assert len(layers) == 3
    assert trains_vision(layers, vqa.vision_modules)


def test_a_vision_module_may_be_a_layer_itself(load):
    """BLIP-2's projection: its stored outputs would never reach what is trained."""
    vqa = load("blip2")
    layers, _ = put(vqa, "q_proj", "language_projection")
    assert sum(layer.endswith("language_projection") for layer in layers) == 1
    assert trains_vision(layers, vqa.vision_modules)


def test_a_target_that_matches_nothing_is_refused(load):
    with pytest.raises(UserError, match=r"no layer is called query\. There are: .*q_proj"):
        put(load("llava"), "query", "q_proj")
