"""Chat models of architectures that the engine doesn't know are asked through the library."""

import pandas as pd
import pytest
from PIL import Image

from abo_vqa.core.errors import UserError
from abo_vqa.models import library_chat
from abo_vqa.models.answering.batches import AdaptiveBatcher
from abo_vqa.models.answers import CandidateAnswers
from abo_vqa.models.library_chat import LibraryChat
from abo_vqa.models.sources import ImageFiles
from tests.support.library import LibraryModel
from tests.support.vipllava import save_vipllava
from tests.support.vlm_checkpoints import SavedCheckpoint
from tests.support.workspaces import QUESTIONS, pictures

CHOICES = ("black", "round table", "two")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SavedCheckpoint:
    folder = save_vipllava(tmp_path_factory.mktemp("library") / "vipllava")
    return SavedCheckpoint(folder, "chat", "{question} answer in one word.")


@pytest.fixture(scope="module")
def table() -> list[tuple[Image.Image, str]]:
    return [(image, q) for i, image in enumerate(pictures(4)) for q in QUESTIONS[i : i + 3]]


def test_answers_are_the_librarys_one_by_one(made, table) -> None:
    model, library = made.load(), LibraryModel(made.folder, made.prompt)
    assert type(model) is LibraryChat
    images, questions = zip(*table, strict=True)
    answers = model.answer(images, questions)
    for (image, question), answer in zip(table, answers, strict=True):
        expected = library.answer(image, question)
        assert answer.text == expected.text
        assert answer.confidence == pytest.approx(expected.confidence, rel=1e-3)
    assert len({answer.text for answer in answers}) >= 3


def test_choices_have_the_librarys_likelihoods(made, table) -> None:
    model, library = made.load(), LibraryModel(made.folder, made.prompt)
    (image, question), *_ = table
    (scores,) = model.rank([image], [question], [CHOICES])
    tokens = [
        model.processor.tokenizer(f" {c}", add_special_tokens=False)["input_ids"] for c in CHOICES
    ]
    expected = [library.log_likelihood(image, question, ids) for ids in tokens]
    assert scores == pytest.approx(expected, rel=1e-4)


def test_many_candidates_take_no_more_memory_than_some(made, table, monkeypatch) -> None:
    """The image goes through the model with each choice: only a shortlist, a few at a time."""
    model, library = made.load(), LibraryModel(made.folder, made.prompt)
    (image, question), *_ = table
    words = [f"{a} {b}" for a in ("red", "round", "two") for b in ("table", "lamp", "chair")]
    candidates = CandidateAnswers((*words, *CHOICES), 4, "first_token")
    monkeypatch.setattr(library_chat, "_CHOICES", 3)
    sizes = []
    forward = model.model.forward
    monkeypatch.setattr(
        model.model, "forward", lambda **i: sizes.append(len(i["input_ids"])) or forward(**i)
    )
    encoded = model.encode(model.preprocess([image]))
    (answer,) = model.rank_answers(encoded, [0], [question], candidates)
    assert sizes == [1, 3, 1]
    (first,) = model.first_token_log_probs(encoded, [0], [question], candidates.texts)
    ids = [
        model.processor.tokenizer(f" {c}", add_special_tokens=False)["input_ids"]
        for c in candidates.texts
    ]
    expected = [library.log_likelihood(image, question, tokens[:1]) for tokens in ids]
    assert first == pytest.approx(expected, rel=1e-4)
    shortlist = candidates.select(first)
    scores = model.score_choices(encoded, [0], [question], [shortlist])[0]
    assert answer.text == shortlist[scores.index(max(scores))]


def test_an_empty_choice_is_an_end(made, table) -> None:
    model, (image, question) = made.load(), table[0]
    model._prompts._answers[""] = model._prompts.answer_tokens("")[-1:]
    [scores] = model.rank([image], [question], [["red", ""]])
    assert scores[0] == pytest.approx(model.rank([image], [question], [["red"]])[0][0], rel=1e-4)
    assert max(scores) < 0


def test_without_a_template_it_is_refused(made, tmp_path) -> None:
    """The engine would have to know where its image goes."""
    folder = save_vipllava(tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="is a model of the type vipllava, and without a chat temp"):
        SavedCheckpoint(folder, "chat", "{question}").load()


def test_a_row_that_cant_be_asked_costs_itself_only(made) -> None:
    model = made.load()
    images = {f"{i}": image for i, image in enumerate(pictures(4))}
    asked = ["is it red?", "is <image> red?", "  ", "what?"]
    rows = pd.DataFrame({"image_path": list(images), "question": asked})
    answers = AdaptiveBatcher(model, ImageFiles(images.__getitem__, 1)).answer(rows)
    assert [bool(answer.error) for answer in answers] == [False, True, True, False]
