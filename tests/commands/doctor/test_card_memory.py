"""Whether the models of the settings fit a card, said before anything is fetched."""

import pytest
import t4
from helpers.hub import blip, blip2, clip, llava, vilt

from abo_vqa.commands.doctor import card_memory, gpu
from tests.support.pretend_gpu import pretend

GIB = 2**30
T4 = {"memory": 15 * GIB, "capability": (7, 5)}
HUB = {"blip": blip, "blip2": blip2, "clip": clip, "llava": llava, "vilt": vilt}


def test_profile_t4_fits_a_t4(look):
    with pretend(**T4):
        found = look(card_memory.card_memory, profile="t4")
        dtypes = look(gpu.dtype, profile="t4")["dtype"].found
    assert {finding.state for finding in found.values()} == {"ok"}
    fits = found["gpu memory"]
    assert set(fits.numbers) == {"blip", "blip2", "clip", "llava", "vilt"}
    assert "of 16.1 GB" in fits.found
    assert "8bit weights, float16: llava" in dtypes
    assert "float16: blip, blip2, clip, vilt" in dtypes


def test_profile_abo_has_to_halve_its_batches(look):
    with pretend(**T4):
        found = look(card_memory.card_memory, profile="abo")
    states = {name: finding.state for name, finding in found.items()}
    assert states == {"models.blip": "warning", "models.llava": "warning", "gpu memory": "ok"}
    assert "about 21.3 GB with 16 rows, of 16.1" in found["models.llava"].found
    assert "quantize: 8bit" in found["models.llava"].advice
    assert "batch_sizes.blip" in found["models.blip"].advice
    with pretend(memory=24 * GIB):
        assert set(look(card_memory.card_memory, profile="abo")) == {"gpu memory"}
    with pretend(memory=12 * GIB):  # not even its weights
        llava = look(card_memory.card_memory, profile="abo")["models.llava"]
    assert llava.state == "problem"
    assert "15.3 GB with a single row, of 12.9" in llava.found


def test_nothing_is_said_without_a_card_or_of_unknown_models(look):
    assert look(card_memory.card_memory, profile="t4") == {}
    with pretend(**T4):
        assert look(card_memory.card_memory) == {}  # the sample's


@pytest.mark.parametrize("name", t4.WORKS)
def test_sizes_are_those_of_the_arithmetic(name):
    """Parameters are those of the real checkpoints' shapes; rows those of benchmarks/t4.py."""
    path = {
        "blip": "Salesforce/blip-vqa-base", "blip2": "Salesforce/blip2-opt-2.7b",
        "clip": "timm/vit_base_patch32_clip_224.openai", "llava": "llava-hf/llava-1.5-7b-hf",
        "vilt": "dandelin/vilt-b32-finetuned-vqa",
    }[name]  # fmt: skip
    known = card_memory.KNOWN_SIZES[path]
    counted = sum(tensor.bytes("float32") for tensor in HUB[name].repository(True).tensors) / 4
    assert known.parameters == pytest.approx(counted, rel=0.01)
    assert known.row == pytest.approx(t4.WORKS[name].row_bytes(), rel=0.35)
