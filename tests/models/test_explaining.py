"""Explanations: the model's own answer, likeliest texts, attention as the library computes it."""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from abo_vqa.core.errors import UserError
from abo_vqa.models.answering.ranked import RankedModel
from abo_vqa.models.answers import CandidateAnswers
from abo_vqa.models.blind.baselines import fit_ngrams, unify_spelling
from abo_vqa.models.explaining import search
from abo_vqa.models.explaining.blind import BlindExplainer
from abo_vqa.models.explaining.causal import processed_region
from abo_vqa.models.explaining.registry import EXPLAINERS, explainer_of
from abo_vqa.models.registry import FAMILIES
from abo_vqa.models.sharing import share_equal_weights, vision_weights
from tests.support import models as tiny
from tests.support.adapters import adapter_for

CANDIDATES = CandidateAnswers((*tiny.ANSWERS, "black lamp"), 128, "first_token")
LONGEST = 6  # tokens of an answer
QUESTION = "what color is the lamp?"


@pytest.fixture(scope="module")
def explain(load, rows):
    """explain("blip") → the model, and the explanation of its answer about the first picture."""

    def explained(name: str, question: str = QUESTION, **options):
        model = load(name, **options)
        return model, explainer_of(model, CANDIDATES).explain(rows.pictures[0], question)

    return explained


@pytest.mark.parametrize("name", ["blip", "blip2", "chat", "clip", "llava", "vilt"])
def test_the_answer_is_the_models_own(explain, rows, name: str) -> None:
    options = {"candidates": tiny.ANSWERS} if name == "clip" else {}
    for question in (QUESTION, "is it red?"):
        model, explanation = explain(name, question, **options)
        [answer] = model.answer([rows.pictures[0]], [question])
        assert (explanation.answer, explanation.confidence) == (answer.text, answer.confidence)


@pytest.mark.parametrize("name", ["clip", "llava", "vilt"])
def test_probabilities_are_those_of_score_choices(explain, rows, name: str) -> None:
    options = {"candidates": tiny.ANSWERS} if name == "clip" else {}
    model, explanation = explain(name, **options)
    likeliest = explanation.likeliest.answers
    probabilities = [likely.probability for likely in likeliest]
    assert len(probabilities) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    texts = [likely.text for likely in likeliest]
    choices = tiny.ANSWERS if name == "clip" else texts  # CLIP's are shares of all candidates
    scores = model.rank([rows.pictures[0]], [QUESTION], [choices])[0]
    ranked = dict(zip(choices, map(math.exp, scores), strict=True))
    assert probabilities == pytest.approx([ranked[text] for text in texts], rel=1e-4)


@pytest.fixture
def decided(load):
    """A BLIP that writes whole words and is rarely undecided, as trained ones are."""
    model = load("blip", {"max_new_tokens": LONGEST})
    tokens = model.processor.tokenizer.get_vocab()
    output = model.model.text_decoder.cls.predictions.decoder
    with torch.no_grad():
        output.weight.mul_(4)
        output.bias[tokens["[SEP]"]] += 8
        for token, position in tokens.items():
            if token.startswith(("##", "[")) and token != "[SEP]":
                output.bias[position] -= 1000
    return model


def test_blips_likeliest_are_of_all_texts(decided, rows) -> None:
    image, tokenizer = rows.pictures[0], decided.processor.tokenizer
    for question in rows.questions[:6]:
        explanation = explainer_of(decided, CANDIDATES).explain(image, question)
        likeliest = explanation.likeliest
        assert likeliest.scope.startswith("The likeliest of all texts.")
        texts = [likely.text for likely in likeliest.answers]
        probabilities = [likely.probability for likely in likeliest.answers]
        # One that the maximum length has cut off has no end that could be counted.
        whole = [i for i, text in enumerate(texts) if len(tokenizer.tokenize(text)) < LONGEST]
        assert len(whole) >= 2
        scores = decided.rank([image], [question], [[*texts, *tiny.ANSWERS]])[0]
        scored = [math.exp(score) for score in scores]
        assert [probabilities[i] for i in whole] == pytest.approx([scored[i] for i in whole], 1e-3)
        others = zip(scored[len(texts) :], tiny.ANSWERS, strict=True)
        assert max(p for p, answer in others if answer not in texts) <= probabilities[-1] * 1.001
        assert explanation.confidence <= probabilities[0] * 1.001


class Tree:
    """Random next-token distributions of a vocabulary of 6, whose token 0 ends a text."""

    def __init__(self, seed: int) -> None:
        self.seed, self.calls = seed, 0

    def row(self, tokens: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, tokens)) % 2**31)
        return (3 * torch.randn(6, generator=generator)).log_softmax(-1)

    def __call__(self, texts) -> torch.Tensor:
        self.calls += 1
        return torch.stack([self.row(tokens) for tokens in texts])

    def all_texts(self, longest: int) -> list[tuple[float, tuple[int, ...]]]:
        """Every text, by brute force; one of `longest` tokens ends there."""
        texts = []
        for length in range(longest + 1):
            for tokens in itertools.product(range(1, 6), repeat=length):
                rows = [self.row(tokens[:i])[token] for i, token in enumerate(tokens)]
                end = [self.row(tokens)[0]] if length < longest else []
                texts.append((float(sum([*rows, *end])), tokens))
        return sorted(texts, reverse=True)


def test_an_empty_answer_has_maps_of_the_question(decided, rows) -> None:
    with torch.no_grad():
        output = decided.model.text_decoder.cls.predictions.decoder
        output.bias[decided.processor.tokenizer.sep_token_id] += 1000
    explanation = explainer_of(decided, CANDIDATES).explain(rows.pictures[0], QUESTION)
    assert (explanation.answer, explanation.likeliest.answers[0].text) == ("", "")
    assert set(explanation.attention.kinds) == {"question"}


@pytest.mark.parametrize("seed", range(8))
def test_the_search_is_exact(seed: int) -> None:
    tree = Tree(seed)
    search_ = search.TextSearch(tree.row(()), tree, 0, 4, 5)
    wanted = tree.all_texts(4)[:5]
    assert [tokens for tokens, _ in search_.finished] == [tokens for _, tokens in wanted]
    assert [p for _, p in search_.finished] == pytest.approx([p for p, _ in wanted], abs=1e-5)
    assert search_.exact


def test_a_search_that_gave_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_WIDTH", 1)
    monkeypatch.setattr(search, "_STEPS", 1)
    tree = Tree(0)
    assert not search.TextSearch(tree.row(()), tree, 0, 4, 5).exact
    monkeypatch.undo()
    monkeypatch.setattr(search, "_KEPT", 2)  # some beginnings are never looked at
    assert not all(search.TextSearch(Tree(s).row(()), Tree(s), 0, 4, 5).exact for s in range(8))


def test_blips_attention_is_the_librarys(explain, rows) -> None:
    """The chain of both cross-attentions, from transformers' own `output_attentions`."""
    model, explanation = explain("blip")
    network, tokenizer = model.model, model.processor.tokenizer
    inputs = model.processor(images=rows.pictures[0], text=QUESTION, return_tensors="pt")
    answer = tokenizer(explanation.answer, add_special_tokens=False)["input_ids"]
    before = torch.tensor([[network.decoder_start_token_id, *answer][: len(answer)]])
    with torch.no_grad():
        images = network.vision_model(inputs["pixel_values"]).last_hidden_state
        encoded = network.text_encoder(
            inputs["input_ids"], encoder_hidden_states=images, output_attentions=True
        )
        decoded = network.text_decoder.bert(
            before,
            encoder_hidden_states=encoded.last_hidden_state,
            is_decoder=True,
            output_attentions=True,
        )
    to_image = torch.cat(encoded.cross_attentions).mean((0, 1))  # over layers and heads
    to_question = torch.cat(decoded.cross_attentions).mean((0, 1))
    wanted = torch.cat([to_image[1:-1], to_question @ to_image]).numpy()
    attention = explanation.attention
    seen = np.concatenate([attention.elsewhere[:, None], attention.maps.reshape(-1, 4)], axis=1)
    np.testing.assert_allclose(seen, wanted, atol=1e-5)
    assert wanted.std(0).max() > 1e-3  # the tokens' maps differ
    words = len(inputs["input_ids"][0]) - 2
    assert attention.kinds == ("question",) * words + ("answer",) * len(answer)
    assert attention.tokens[:3] == ("what", "color", "is")


def test_llavas_attention_is_the_librarys(load, explain, rows) -> None:
    model, explanation = explain("llava")
    prompt = model.checkpoint.prompt.replace("{question}", QUESTION)
    inputs = model.processor(images=rows.pictures[0], text=prompt, return_tensors="pt")
    ids = model.processor.tokenizer(explanation.answer, add_special_tokens=False)["input_ids"]
    whole = torch.cat([inputs["input_ids"], torch.tensor([ids[:-1]], dtype=torch.long)], dim=1)
    library = load("llava").model
    library.set_attn_implementation("eager")
    with torch.no_grad():
        output = library(
            input_ids=whole, pixel_values=inputs["pixel_values"], output_attentions=True
        )
    rows_ = torch.cat(output.attentions).mean((0, 1))[-len(ids) :]
    wanted = rows_[:, whole[0] == model.image_token].numpy()
    np.testing.assert_allclose(explanation.attention.maps.reshape(len(ids), -1), wanted, atol=1e-5)
    assert model.model.config.get_text_config()._attn_implementation == model.attention == "sdpa"


@pytest.mark.parametrize("name", ["blip", "llava", "vilt"])
@pytest.mark.parametrize("position", [0, 1])
def test_attention_adds_up_and_covers_the_image(load, rows, name: str, position: int) -> None:
    model, picture = load(name), rows.pictures[position]
    attention = explainer_of(model, CANDIDATES).explain(picture, QUESTION).attention
    assert attention.maps.shape[0] == len(attention.tokens) == len(attention.kinds) > 0
    np.testing.assert_allclose(attention.maps.sum((1, 2)) + attention.elsewhere, 1, atol=1e-6)
    assert (attention.maps >= 0).all()
    assert (attention.elsewhere > 0).all()
    left, top, right, bottom = attention.region
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1


def test_vilts_patches_keep_the_images_proportions(load) -> None:
    """A picture that is twice as wide has twice as many columns as rows, and its map as well."""
    model, picture = load("vilt"), Image.new("RGB", (96, 48), "red")
    attention = explainer_of(model, CANDIDATES).explain(picture, QUESTION).attention
    _, high, wide = attention.maps.shape
    assert high * wide == len(model.encode_images([picture])[0]) - 1
    assert high < wide


def test_a_crop_is_where_the_processor_crops() -> None:
    class Processor:
        do_center_crop, size, crop_size = True, {"shortest_edge": 64}, {"height": 64, "width": 64}

    wide = Image.new("RGB", (200, 100))
    assert processed_region(Processor, wide) == (0.25, 0.0, 0.75, 1.0)
    Processor.do_center_crop = False
    assert processed_region(Processor, wide) == (0.0, 0.0, 1.0, 1.0)


def test_a_ranking_models_confidence_is_the_first_share(load, rows) -> None:
    model = RankedModel(load("blip"), CandidateAnswers(CANDIDATES.texts, 8, "first_token"))
    explanation = explainer_of(model, CANDIDATES).explain(rows.pictures[0], QUESTION)
    [answer] = model.answer([rows.pictures[0]], [QUESTION])
    first = explanation.likeliest.answers[0]
    assert (first.text, explanation.answer) == (answer.text, answer.text)
    assert first.probability == pytest.approx(answer.confidence, rel=1e-6)
    assert explanation.attention.kinds[-1] == "answer"
    assert "8 answers" in explanation.likeliest.scope


def test_what_a_model_cannot_give_is_explained(explain) -> None:
    _, explanation = explain("clip", candidates=tiny.ANSWERS)
    assert explanation.attention is None
    assert explanation.no_attention.startswith("Not available for this model: CLIP")
    _, explanation = explain("blip2")
    assert (explanation.attention, explanation.no_attention) == (
        None,
        "Not available for this model.",
    )


def test_mistakes_are_named(load, rows) -> None:
    explainer = explainer_of(load("blip"), CANDIDATES)
    with pytest.raises(UserError, match=r"^the question is empty\.$"):
        explainer.explain(rows.pictures[0], " ")
    with pytest.raises(UserError, match="too long: 82 tokens, room for"):
        explainer.explain(rows.pictures[0], "lamp " * 80)


def test_every_explainer_belongs_to_a_family() -> None:
    classes = {target.partition(":")[2] for target in FAMILIES.values()} | {"RankedModel"}
    assert set(EXPLAINERS) <= classes


def test_blind_lists_what_its_own_model_computes() -> None:
    train = pd.DataFrame(
        {
            "question": ["what color is it?"] * 4 + ["how many lamps?"] * 4,
            "answer": ["red", "red", "red", "blue", "2", "2", "3", "blue"],
        }
    )
    explanation = BlindExplainer(train).explain("what color?")
    predict = fit_ngrams(*unify_spelling(train["question"].tolist(), train["answer"].tolist()))
    [answer], [confidence] = predict(["what color?"])
    first = explanation.likeliest.answers[0]
    assert (explanation.answer, first.text) == (answer, answer)
    assert explanation.confidence == confidence
    assert first.probability == pytest.approx(confidence, rel=1e-5)
    assert sum(likely.probability for likely in explanation.likeliest.answers) == pytest.approx(1)
    with pytest.raises(UserError, match="empty"):
        BlindExplainer(train).explain("")


def test_sharing_frees_memory_and_changes_no_answer(load, folders, rows, tmp_path: Path) -> None:
    adapter = adapter_for(folders["blip"], tmp_path / "adapter", ["query", "value"])
    base, tuned = load("blip"), load("blip", adapter=adapter)
    before = [m.answer(rows.images, rows.questions) for m in (base, tuned)]
    assert before[0] != before[1]
    assert vision_weights(base) != vision_weights(tuned)
    released = share_equal_weights(tuned, base)
    total = sum(p.nbytes for p in base.model.parameters())
    assert 0.5 * total < released < total
    assert vision_weights(base) == vision_weights(tuned) != ()
    assert [m.answer(rows.images, rows.questions) for m in (base, tuned)] == before
    assert share_equal_weights(tuned, base) == 0
