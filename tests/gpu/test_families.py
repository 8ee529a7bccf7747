"""Every family on a card: answers, irregular batches and ranking, in each number format."""

import pytest
import torch

from abo_vqa.core.config import ComputeConfig
from abo_vqa.models.answering.ranked import RankedModel
from abo_vqa.models.answers import CandidateAnswers
from tests.support.models import ANSWERS
from tests.support.pretend_gpu import pretend

FAMILIES = ["blip", "blip2", "chat", "clip", "llava", "vilt"]
RANKING = ["blip", "blip2", "chat", "llava"]
OPTIONS = {"clip": {"candidates": ["red", "blue", "two", "wood", "round table"]}}
# A picture once, another with all questions, rows out of order: 9 rows of 5 pictures.
IRREGULAR = [3, 8, 9, 10, 11, 23, 0, 1, 17]
CHOICES = ["red", "round table", "two"]


def on(device: str, dtype: str = "float32") -> ComputeConfig:
    return ComputeConfig(device=device, dtype=dtype)


@pytest.fixture(scope="module")
def on_cpu(load, rows):
    """A family's answers, those of the irregular batch and its ranking on the CPU."""
    known: dict = {}

    def found(name: str):
        if name not in known:
            known[name] = asked(load(name, **OPTIONS.get(name, {})), name, rows)
        return known[name]

    return found


def asked(model, name: str, rows):
    images = [rows.images[i] for i in IRREGULAR]
    questions = [rows.questions[i] for i in IRREGULAR]
    ranked = model.rank(images[:4], questions[:4], [CHOICES] * 4) if name in RANKING else []
    return model.answer(rows.images, rows.questions), model.answer(images, questions), ranked


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_in_float32_are_the_cpus(name: str, load, rows, on_cpu, gpu) -> None:
    model = load(name, compute=on("cuda:0"), **OPTIONS.get(name, {}))
    whole, irregular, ranked = asked(model, name, rows)
    expected, expected_irregular, expected_ranks = on_cpu(name)
    for said, wanted in ((whole, expected), (irregular, expected_irregular)):
        assert [a.text for a in said] == [a.text for a in wanted]
        assert [a.confidence for a in said] == pytest.approx(
            [a.confidence for a in wanted], rel=1e-3
        )
    for scores, wanted in zip(ranked, expected_ranks, strict=True):
        assert scores == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("name", [*RANKING, "vilt"])
def test_known_answers_are_ranked_as_on_the_cpu(name: str, load, rows, gpu) -> None:
    candidates = CandidateAnswers((*ANSWERS, "round table", "black lamp"), 5, "first_token")
    images = [rows.images[i] for i in IRREGULAR]
    questions = [rows.questions[i] for i in IRREGULAR]
    expected, answers = (
        RankedModel(load(name, compute=on(device)), candidates).answer(images, questions)
        for device in ("cpu", "cuda:0")
    )
    assert [a.text for a in answers] == [a.text for a in expected]
    assert [a.confidence for a in answers] == pytest.approx(
        [a.confidence for a in expected], rel=1e-3
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision(name: str, dtype: str, load, rows, on_cpu, gpu) -> None:
    """Nothing is left in another format; these random weights are sensitive to rounding."""
    model = load(name, compute=on("cuda:0", dtype), **OPTIONS.get(name, {}))
    # The library's wish; and the scale of CLIP's similarities, which mustn't be rounded.
    wide = name == "clip" or (name, dtype) == ("blip2", "float16")
    kept = {torch.float32} if wide else set()
    assert {p.dtype for p in model.model.parameters()} == {getattr(torch, dtype), *kept}
    assert {p.device for p in model.model.parameters()} == {torch.device("cuda:0")}
    whole, irregular, ranked = asked(model, name, rows)
    expected, _, expected_ranks = on_cpu(name)
    same = sum(a.text == b.text for a, b in zip(whole, expected, strict=True))
    assert same >= (0.8 if dtype == "float16" else 0.3) * len(expected)
    assert all(answer.error == "" and 0 <= answer.confidence <= 1 for answer in irregular)
    for scores, wanted in zip(ranked, expected_ranks, strict=True):
        assert scores == pytest.approx(wanted, rel=0.2)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_second_card_is_a_card_like_the_first(name: str, load, rows, on_cpu) -> None:
    with pretend(cards=2) as machine:
        model = load(name, compute=on("cuda:1"), **OPTIONS.get(name, {}))
        answers = model.answer(rows.images, rows.questions)
        assert [a.text for a in answers] == [a.text for a in on_cpu(name)[0]]
        assert machine.cards[0].peak == 0
        assert machine.cards[1].peak > machine.cards[1].live > 0
