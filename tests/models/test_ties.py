"""Answers chosen among thousands in half precision: by their scores, not by the alphabet."""

import pytest
import torch

from abo_vqa.models.clip.model import Clip
from tests.support import models as tiny
from tests.support import workspaces

PICTURES, CANDIDATES, WIDTH = 400, 3000, 512


@pytest.fixture(scope="module")
def clip(load) -> Clip:
    """With CLIP's real scale of 100; the features come from the tests."""
    model = load("clip", {"dtype": "bfloat16"}, candidates=tiny.ANSWERS)
    model.model.logit_scale.data.fill_(torch.tensor(100.0).log())
    return model


def unit(values: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(values, dim=-1)


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_a_scale_of_100_and_3000_candidates(clip, spread) -> None:
    """Features as CLIP's lie: similarities about 0.25, and close to each other."""
    draw = torch.Generator().manual_seed(0)
    common = torch.randn(WIDTH, generator=draw)
    shared = torch.randn(WIDTH, generator=draw)
    texts = unit(common + spread * torch.randn(CANDIDATES, WIDTH, generator=draw))
    noise = torch.randn(PICTURES, WIDTH, generator=draw)
    pictures = unit(0.25 * unit(common)[None] * WIDTH**0.5 + 0.9 * noise + 0.1 * shared)
    exact = (100 * pictures.bfloat16().float() @ texts.bfloat16().float().T).argmax(-1)
    found = clip.similarities(pictures.bfloat16(), range(PICTURES), texts.bfloat16()).argmax(-1)
    assert (found == exact).float().mean() >= 0.99


def test_the_scale_isnt_rounded(load) -> None:
    """Its logarithm would be, and 100 become 99."""
    exact = load("clip", candidates=tiny.ANSWERS).model.logit_scale
    rounded = load("clip", {"dtype": "bfloat16"}, candidates=tiny.ANSWERS).model.logit_scale
    assert rounded.item() == exact.item() != exact.bfloat16().item()


def test_of_two_near_equal_candidates_the_closer_one_wins(clip) -> None:
    """Similarities 25.00 and 25.05 of 100: one number in bfloat16."""
    seen = torch.zeros(1, WIDTH)
    seen[0, 0] = 1
    texts = torch.zeros(2, WIDTH)
    texts[:, 0] = torch.tensor([0.25, 0.2505])
    texts[:, 1] = (1 - texts[:, 0] ** 2).sqrt()
    scores = clip.similarities(seen, [0], texts)
    assert scores.dtype == torch.float32
    assert scores.argmax().item() == 1
    torch.testing.assert_close(scores, torch.tensor([[25.0, 25.05]]), rtol=0, atol=2e-3)


def test_clips_features_are_of_unit_length_in_float32(clip) -> None:
    seen = clip.encode_images(workspaces.pictures(3))
    (_, texts), *_ = clip.encode_texts(["is it red?"], tiny.ANSWERS)
    for features in (seen, texts):
        assert features.dtype == torch.float32
        lengths = features.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-6)


def test_clips_answers_and_ranking_agree(clip, rows) -> None:
    """`rank` is the other way to the same scores."""
    said = clip.answer(rows.images, rows.questions)
    ranked = clip.rank(rows.images, rows.questions, [tiny.ANSWERS] * len(rows.images))
    best = [tiny.ANSWERS[max(range(len(r)), key=r.__getitem__)] for r in ranked]
    assert [answer.text for answer in said] == best


def test_vilts_3000_labels_keep_their_order(load) -> None:
    """A classifier in bfloat16 whose last product isn't rounded before the best is taken."""
    from abo_vqa.models.vilt import classifier_scores

    torch.manual_seed(0)
    classifier = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.LayerNorm(128), torch.nn.GELU(),
        torch.nn.Linear(128, CANDIDATES),
    ).bfloat16()  # fmt: skip
    states = torch.randn(PICTURES, 64).bfloat16()
    with torch.inference_mode():
        hidden = classifier[:-1](states).float()
        exact = hidden @ classifier[-1].weight.float().T + classifier[-1].bias.float()
        found = classifier_scores(classifier, states)
    assert found.dtype == torch.float32
    assert (found.argmax(-1) == exact.argmax(-1)).float().mean() >= 0.99


def test_vilt_isnt_blinded_by_the_sigmoid(load, rows, monkeypatch) -> None:
    """Beyond 17 every sigmoid is 1: the best is chosen before it."""
    model = load("vilt")
    scores = torch.full((1, len(tiny.ANSWERS)), 20.0)
    scores[0, 7] = 25.0
    monkeypatch.setattr(model, "_logits", lambda *_: scores)
    (answer,) = model.answer(rows.images[:1], ["is it red?"])
    assert answer.text == tiny.ANSWERS[7]
