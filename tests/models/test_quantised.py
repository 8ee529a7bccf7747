"""Weights in 8 bits by bitsandbytes, on its CPU backend: answers, adapters, training's layers."""

import pytest
import torch

from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.core.errors import UserError
from abo_vqa.models import loading
from tests.support.adapters import adapter_for

CPU = ComputeConfig(device="cpu", dtype="float32")


@pytest.mark.parametrize("name", ["blip", "blip2", "llava", "vilt", "chat"])
def test_every_family_answers(load, rows, name: str) -> None:
    model = load(name, {"quantize": "8bit"})
    assert any(p.dtype == torch.int8 for p in model.model.parameters())
    answers = model.answer(rows.images[:6], rows.questions[:6])
    assert all(0 <= a.confidence <= 1 and not a.error for a in answers)
    assert model.record()["quantize"] == "8bit"


def test_an_adapter_beside_quantised_weights(folders, load, rows, tmp_path) -> None:
    """Nothing can be added to quantised weights: the adapter's layers stay."""
    adapter = adapter_for(folders["blip"], tmp_path / "adapter", ["query", "value"])
    plain = load("blip", {"quantize": "8bit"})
    tuned = load("blip", {"quantize": "8bit"}, adapter=adapter)
    whole = load("blip", adapter=adapter)
    ask = rows.images, rows.questions
    said, expected = tuned.answer(*ask), whole.answer(*ask)
    same = sum(a.text == b.text for a, b in zip(said, expected, strict=True)) / len(said)
    before = plain.answer(*ask)
    as_before = sum(a.text == b.text for a, b in zip(said, before, strict=True)) / len(said)
    assert same > 0.7
    assert as_before < same
    assert tuned.rank(rows.images[:2], rows.questions[:2], [["red", "two"]] * 2)


def test_8_bits_arent_cast_in_every_layer(load, rows, caplog) -> None:
    """bitsandbytes says in the log of each product that it casts what isn't float16."""
    model = load("blip", {"quantize": "8bit", "dtype": "bfloat16"})
    model.answer(rows.images[:2], rows.questions[:2])
    assert "will be cast" not in caplog.text


def test_quantised_weights_are_counted_as_such(folders, monkeypatch) -> None:
    from transformers import ViltForQuestionAnswering

    checkpoint = CheckpointConfig(path=str(folders["vilt"]))
    options, _ = loading.load_options(checkpoint, CPU)
    whole = loading.weight_bytes(ViltForQuestionAnswering, checkpoint, options)
    eight = CheckpointConfig(path=str(folders["vilt"]), quantize="8bit")
    small = loading.weight_bytes(ViltForQuestionAnswering, eight, options)
    assert small == whole / 4
    monkeypatch.setattr(loading, "available_memory", lambda: small - 1)
    with pytest.raises(UserError, match="GB in 8bit"):
        loading.load_pretrained(ViltForQuestionAnswering, eight, CPU)
