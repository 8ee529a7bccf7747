"""Decoding among known answers: the published algorithm, one question and one answer at a time."""

import math

import pytest
import torch
from PIL.Image import Image

from abo_vqa.models.answers import CandidateAnswers, likeliest
from abo_vqa.models.base import VQAModel
from abo_vqa.models.blip import ranking
from tests.support import models as tiny

# One to five tokens; several begin alike, so that first tokens tie.
CANDIDATES = (
    *tiny.ANSWERS, "black lamp", "black table", "left black round wood table", "two chair", "zz",
    "lamp black", "glass", "round",
)  # fmt: skip
CANDIDATES = tuple(dict.fromkeys(CANDIDATES))


@pytest.fixture(scope="module")
def blip(load):
    return load("blip")


class Reference:
    """Li et al. (2022), from the paper's description, on the library's modules.

    "During inference, the decoder ranks the candidate answers": the k whose first token is the
    likeliest after the start token, then the one with the lowest loss of the whole answer.
    """

    def __init__(self, blip) -> None:
        self.model, self.processor = blip.model, blip.processor
        self.end = self.model.config.text_config.sep_token_id
        # Every k needs these again; images live as long as the session's rows.
        self.states: dict[tuple[int, str], torch.Tensor] = {}
        self.likelihoods: dict[tuple[int, str, str], float] = {}

    def encoded(self, image: Image, question: str) -> torch.Tensor:
        """The question's states, which have attended to the image."""
        key = id(image), question
        if key not in self.states:
            inputs = self.processor(images=image, text=question, return_tensors="pt")
            image_states = self.model.vision_model(inputs["pixel_values"]).last_hidden_state
            self.states[key] = self.model.text_encoder(
                inputs["input_ids"], encoder_hidden_states=image_states
            ).last_hidden_state
        return self.states[key]

    @torch.no_grad()
    def logits(self, image: Image, question: str, ids: list[int]) -> torch.Tensor:
        """Log-probabilities of the token after each of `ids`."""
        states = self.encoded(image, question)
        output = self.model.text_decoder(torch.tensor([ids]), encoder_hidden_states=states)
        return output.logits[0].log_softmax(-1)

    def tokens(self, answer: str) -> list[int]:
        return self.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]

    def likelihood(self, image: Image, question: str, answer: str) -> float:
        key = id(image), question, answer
        if key not in self.likelihoods:
            ids = [*self.tokens(answer), self.end]
            rows = self.logits(image, question, [self.model.decoder_start_token_id, *ids[:-1]])
            self.likelihoods[key] = float(sum(r[t] for r, t in zip(rows, ids, strict=True)))
        return self.likelihoods[key]

    def rank(self, image: Image, question: str, k: int) -> tuple[str, float]:
        """The answer, and its share of the likelihood of the k."""
        first = self.logits(image, question, [self.model.decoder_start_token_id])[0]
        ordered = sorted(CANDIDATES, key=lambda c: -float(first[self.tokens(c)[0]]))
        scores = {c: self.likelihood(image, question, c) for c in ordered[:k]}
        best = max(scores, key=scores.get)
        return best, math.exp(scores[best]) / sum(map(math.exp, scores.values()))


def rank(model, rows, k: int, shortlist: str = "first_token", candidates=CANDIDATES):
    """The model's answers to all rows at once: pictures repeat, questions are mixed."""
    index = {id(picture): i for i, picture in enumerate(rows.pictures)}
    images = [index[id(image)] for image in rows.images]
    closed = CandidateAnswers(tuple(candidates), k, shortlist)
    encoded = model.encode_images(rows.pictures)
    return model.rank_answers(encoded, images, rows.questions, closed)


@pytest.fixture(scope="module")
def reference(blip) -> Reference:
    return Reference(blip)


@pytest.mark.parametrize("k", [1, 5, len(CANDIDATES)])
def test_blip_ranks_as_published(blip, reference, rows, k: int) -> None:
    """With all candidates this is brute force."""
    expected = [reference.rank(i, q, k) for i, q in zip(rows.images, rows.questions, strict=True)]
    answers = rank(blip, rows, k)
    assert [a.text for a in answers] == [text for text, _ in expected]
    for answer, (_, share) in zip(answers, expected, strict=True):
        assert answer.confidence == pytest.approx(share, rel=1e-3)
    assert len({text for text, _ in expected}) > 1  # pictures and questions matter


def test_a_shortlist_can_miss_the_likeliest(blip, rows) -> None:
    """So the tests above can tell k = 1 from all."""
    short, whole = ([a.text for a in rank(blip, rows, k)] for k in (1, len(CANDIDATES)))
    assert short != whole


def test_pieces_change_nothing(blip, rows, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rank(blip, rows, len(CANDIDATES))
    monkeypatch.setattr(ranking, "_POSITIONS", 11)
    pieces = rank(blip, rows, len(CANDIDATES))
    assert [a.text for a in pieces] == [a.text for a in whole]
    for one, other in zip(pieces, whole, strict=True):
        assert one.confidence == pytest.approx(other.confidence, rel=1e-4)


def test_the_most_frequent(blip, rows) -> None:
    """The first k, whatever their first token."""
    answers = rank(blip, rows, 4, "frequent")
    assert {a.text for a in answers} <= set(CANDIDATES[:4])
    assert answers == rank(blip, rows, 4, candidates=CANDIDATES[:4])


def test_equal_first_tokens_are_taken_in_order() -> None:
    scores = torch.tensor([[1.0, 3.0, 1.0, 3.0, 1.0]])
    assert ranking.top_candidates(scores, 3).tolist() == [[1, 3, 0]]
    closed = CandidateAnswers(tuple("abcde"), 3, "first_token")
    assert closed.select(scores[0].tolist()) == ["b", "d", "a"]


@pytest.mark.parametrize("family", ["blip2", "chat", "llava", "vilt"])
def test_every_other_family_ranks_by_its_likelihoods(load, rows, family: str) -> None:
    """The likeliest of all candidates; the confidence is a share of the k likeliest."""
    model = load(family)
    scores = model.rank(rows.images, rows.questions, [CANDIDATES] * len(rows.questions))
    for answer, row in zip(rank(model, rows, len(CANDIDATES)), scores, strict=True):
        assert answer.text == CANDIDATES[row.index(max(row))]
    encoded = model.encode_images(rows.pictures)
    index = [[id(p) for p in rows.pictures].index(id(image)) for image in rows.images]
    first = model.first_token_log_probs(encoded, index, rows.questions, CANDIDATES)
    closed = CandidateAnswers(CANDIDATES, 3, "first_token")
    for i, answer in enumerate(rank(model, rows, 3)):
        row = dict(zip(CANDIDATES, scores[i], strict=True))
        if first is not None:
            row = {text: row[text] for text in closed.select(first[i])}
        top = sorted(map(math.exp, row.values()), reverse=True)[:3]
        assert answer.confidence == pytest.approx(top[0] / sum(top), rel=1e-3)


def test_a_family_may_shortlist_cheaply(load, rows) -> None:
    """Given the log-probabilities of first tokens, only the shortlist is scored."""
    model = load("llava")

    class Favouring(type(model)):
        """A family whose every first token is equally likely but for one answer's."""

        rank_answers = VQAModel.rank_answers

        def first_token_log_probs(self, encoded, image_index, questions, candidates):
            return [[-float(text != CANDIDATES[5]) for text in candidates] for _ in questions]

    scores = model.rank(rows.images, rows.questions, [CANDIDATES] * len(rows.questions))
    model.__class__ = Favouring
    shortlist = (0, 5)
    for answer, row in zip(rank(model, rows, 2), scores, strict=True):
        best = max(shortlist, key=lambda i: row[i])
        total = sum(math.exp(row[i]) for i in shortlist)
        assert answer.text == CANDIDATES[best]
        assert answer.confidence == pytest.approx(math.exp(row[best]) / total, rel=1e-3)


def test_vilt_has_a_vocabulary(load, rows) -> None:
    model = load("vilt")
    answers = rank(model, rows, 10, candidates=("nothing it knows", "black", "white"))
    assert {a.text for a in answers} <= {"black", "white"}
    unknown = rank(model, rows, 10, candidates=("nothing it knows",))
    assert {a.error for a in unknown} == {"none of the choices is among the model's answers"}


def test_confidence_is_a_share_of_the_k_likeliest() -> None:
    scores = [math.log(p) for p in (0.1, 0.4, 0.3)]
    assert likeliest("abc", scores).confidence == pytest.approx(0.5)
    assert likeliest("abc", scores, 2).confidence == pytest.approx(4 / 7)
