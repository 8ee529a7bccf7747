"""A model larger than one card: `device_map` spreads it, and its answers are the CPU's."""

import pytest
import torch

from abo_vqa.core.config import ComputeConfig
from abo_vqa.core.errors import UserError
from tests.support.pretend_gpu import pretend

CARDS = {torch.device("cuda:0"), torch.device("cuda:1")}
# Bytes of weights on the first card that leave a part of the language model to the second one:
# OPT's layers without its embeddings, or one of Llama's two layers.
ROOM = {"blip2": 340_000, "chat": 230_000, "llava": 290_000}
CHOICES = ["red", "round table", "two"]


def asked(model, rows):
    answers = model.answer(rows.images, rows.questions)
    return answers, model.rank(rows.images[:3], rows.questions[:3], [CHOICES] * 3)


def the_same(got, expected) -> None:
    answers, ranked = got
    assert [a.text for a in answers] == [a.text for a in expected[0]]
    assert [a.confidence for a in answers] == pytest.approx(
        [a.confidence for a in expected[0]], rel=1e-3
    )
    for scores, wanted in zip(ranked, expected[1], strict=True):
        assert scores == pytest.approx(wanted, rel=1e-4)


@pytest.fixture(scope="module")
def on_cpu(load, rows):
    return {name: asked(load(name), rows) for name in ROOM}


@pytest.mark.parametrize("name", ROOM)
def test_auto_fills_two_cards(name: str, load, rows, on_cpu) -> None:
    """Here the language model is on another card than the tower that sees the pictures."""
    with pretend(cards=2):
        model = load(name, {"device_map": "auto"}, ComputeConfig(device="cuda:0", dtype="float32"))
        assert {p.device for p in model.model.parameters()} == CARDS
        the_same(asked(model, rows), on_cpu[name])


@pytest.mark.parametrize("name", ROOM)
def test_a_language_model_on_two_cards(
    name: str, load, rows, on_cpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = ComputeConfig(device="cuda:0", dtype="float32")
    with pretend(cards=2):
        with monkeypatch.context() as seen:
            free = {0: ROOM[name], 1: 2**30}
            seen.setattr(torch.cuda, "mem_get_info", lambda device: (free[device], 24 * 2**30))
            model = load(name, {"device_map": "sequential"}, compute)
        parts = model.model.named_parameters()
        text = {p.device for n, p in parts if "language_model" in n or "text_model" in n}
        assert text == CARDS
        the_same(asked(model, rows), on_cpu[name])


def test_blip_stays_on_one_device(load, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = ComputeConfig(device="cuda:0", dtype="float32")
    for device_map in ("sequential", "auto"):
        with pretend(cards=2), monkeypatch.context() as seen:
            seen.setattr(torch.cuda, "mem_get_info", lambda device=0: (200_000, 24 * 2**30))
            with pytest.raises(UserError, match=r"spreads it over several .*device_map to null"):
                load("blip", {"device_map": device_map}, compute)
    with pretend():
        model = load("blip", {"device_map": "auto"}, compute)  # to the only card
        assert all(not answer.error for answer in model.answer(rows.images[:2], rows.questions[:2]))


def test_clip_has_no_such_settings(load) -> None:
    for name, value in (("device_map", "auto"), ("quantize", "8bit")):
        with pytest.raises(UserError, match=f"{name} is {value}.*Set {name} to null"):
            load("clip", {name: value})
