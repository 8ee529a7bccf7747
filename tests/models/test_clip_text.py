"""CLIP's text tower: features equal the library's whatever is shared, with any tokenizer."""

import pytest
import torch

from abo_vqa.models.clip.text import TextTower
from tests.support import models as tiny
from tests.support import workspaces

STARTS = [f"Question: {q} Answer: " for q in workspaces.QUESTIONS]


def features(model, tokenizer, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return model.encode_text(tokenizer(texts), normalize=True)


def check(tower: TextTower, starts: list[str], candidates: list[str]) -> None:
    with torch.no_grad():
        seen = dict[int, torch.Tensor]()
        for some, texts in tower.encode_pairs(starts, candidates):
            seen |= dict(zip(some, texts, strict=True))
    assert sorted(seen) == list(range(len(starts)))
    for i, start in enumerate(starts):
        expected = features(tower.model, tower.tokenizer, [start + c for c in candidates])
        torch.testing.assert_close(seen[i], expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def clip(load):
    return load("clip")


@pytest.fixture(scope="module")
def openai():
    """OpenAI's own tokenizer and architecture, a tiny body."""
    import open_clip
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=1, width=64, patch_size=16, image_size=32)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=32, heads=2, layers=2)
    torch.manual_seed(0)
    model = CLIP(16, vision, text, quick_gelu=True)
    tiny.widen(model, 1.5, 0)
    return TextTower(model, open_clip.get_tokenizer("ViT-B-32"))


def test_shared_starts(clip) -> None:
    check(clip.text, STARTS, tiny.ANSWERS)


def test_openais_tokenizer_with_words_of_several_tokens(openai) -> None:
    candidates = [
        "red",
        "rectangular",
        "multicolor",
        "t-shirt",
        "it's",
        "3",
        "café",
        "non-slip grip",
    ]
    check(openai, STARTS, candidates)


def test_small_passes_give_the_same(clip) -> None:
    tower = TextTower(clip.model, clip.text.tokenizer, max_tokens=7)
    check(tower, STARTS[:3], tiny.ANSWERS[:9])


def test_cut_to_length(openai) -> None:
    texts = [start + c for start in STARTS for c in ("red", "multicolor")]
    with torch.no_grad():
        cut = openai.encode(texts)
    torch.testing.assert_close(
        cut, features(openai.model, openai.tokenizer, texts), rtol=0, atol=1e-6
    )


def test_too_long_a_question_is_truncated_as_in_the_library(openai) -> None:
    long = "Question: " + "what color is this big chair " * 15 + "? Answer: "
    almost = "Question: " + "chair " * 71 + "Answer: "
    check(openai, [STARTS[0], long, almost, STARTS[1]], ["red", "rectangular", "multicolor"])


def test_work_is_shared_and_not_only_equal(openai, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that pass the tower: starts once, and each candidate's own."""
    seen = []
    embed = openai.model.token_embedding.forward
    monkeypatch.setattr(
        openai.model.token_embedding, "forward", lambda ids: seen.append(ids.numel()) or embed(ids)
    )
    with torch.no_grad():
        list(openai.encode_pairs(STARTS, ["red", "blue", "green"]))
    prefix_ids, suffix_ids, odd = openai.split_tokens(STARTS, ["red", "blue", "green"])
    assert not odd
    lengths = {len(prefix) for prefix in prefix_ids}
    assert sum(seen) == sum(map(len, prefix_ids)) + len(lengths) * sum(map(len, suffix_ids))


def test_a_start_that_runs_into_the_candidate_is_read_whole(openai) -> None:
    """Without the space, "Answer:" and the candidate would be spelled together."""
    starts = ["a pho", "Answer: "]
    _, _, odd = openai.split_tokens(starts, ["to", "red"])
    assert odd == {0}
    check(openai, starts, ["to", "red"])


def test_other_towers_are_called_as_they_are(clip, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = TextTower(clip.model, clip.text.tokenizer)
    tower.causal = False
    check(tower, STARTS[:2], tiny.ANSWERS[:4])


def test_rank_is_the_softmax_over_the_choices(clip, rows) -> None:
    choices = [["red", "blue", "round"], ["two", "three"]]
    ranked = clip.rank(rows.images[:2], rows.questions[:2], choices)
    for image, question, options, scores in zip(
        rows.images, rows.questions, choices, ranked, strict=False
    ):
        with torch.no_grad():
            seen = clip.model.encode_image(clip.transform(image)[None], normalize=True)
            sentences = [f"Question: {question} Answer: {c}" for c in options]
            texts = features(clip.model, clip.text.tokenizer, sentences)
            expected = (clip.model.logit_scale.exp() * seen @ texts.T)[0].log_softmax(-1)
        assert scores == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_prompt_that_goes_on_behind_the_candidate(load, rows) -> None:
    clip = load(
        "clip",
        {"prompt": "{question} the answer is {candidate} ."},
        candidates=tiny.ANSWERS,
    )
    answer = clip.answer(rows.images[:1], rows.questions[:1])[0]
    sentences = [f"{rows.questions[0]} the answer is {c} ." for c in tiny.ANSWERS]
    with torch.no_grad():
        seen = clip.model.encode_image(clip.transform(rows.images[0])[None], normalize=True)
        scores = seen @ features(clip.model, clip.text.tokenizer, sentences).T
    assert answer.text == tiny.ANSWERS[int(scores.argmax())]
