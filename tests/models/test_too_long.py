"""Questions that don't fit into a model, or aren't there: their row fails, and only theirs."""

import pandas as pd
import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.models.answering.batches import AdaptiveBatcher
from abo_vqa.models.answering.multiple_choice import MultipleChoiceModel, pack_choices
from abo_vqa.models.sources import ImageFiles
from tests.support import models as tiny

OPTIONS = {"clip": {"candidates": tiny.ANSWERS}}


@pytest.fixture(params=sorted(tiny.MAKERS))
def model(request, load):
    return load(request.param, **OPTIONS.get(request.param, {}))


def asked(words):
    return "red " * (words - 1) + "red"


def most_words(model, choices=None):
    """How many words a question may have."""
    fits = [n for n in range(1, 400) if not model.question_errors([asked(n)], choices)[0]]
    assert fits == list(range(1, len(fits) + 1))
    assert len(fits) < 399
    return len(fits)


def test_what_fits_is_answered_to_the_last_word(model, rows):
    most = most_words(model)
    # A chat's picture isn't counted: only what the picture's tokens leave can be relied on.
    assert model.answer(rows.images[:1], [asked(most)])[0].error == ""
    (fault,) = model.question_errors([asked(most + 1)])
    assert fault.startswith("the question is too long: ")
    with pytest.raises(UserError, match="the question is too long: "):
        model.answer(rows.images[:1], [asked(most + 1)])


def test_a_row_that_cannot_be_asked_leaves_its_batch_alone(model, rows):
    questions = ["what color is it?", asked(900), "", "is it red?", " \t"]
    paths = ["0", "0", "0", "1", "1"]
    images = {"0": rows.pictures[0], "1": rows.pictures[1]}
    table = pd.DataFrame({"image_path": paths, "question": questions})
    found = AdaptiveBatcher(model, ImageFiles(images.__getitem__)).answer(table)
    assert [a.error.partition(":")[0] for a in found] == [
        "",
        "the question is too long",
        "the question is empty",
        "",
        "the question is empty",
    ]
    assert [a.text for a in found if a.error] == ["", "", ""]
    alone = model.answer([images["0"], images["1"]], [questions[0], questions[3]])
    assert [found[0].text, found[3].text] == [a.text for a in alone]


def test_choices_count_too(model, rows):
    choices = ["red", asked(200)]
    if type(model).__name__ == "Vilt":  # its choices are labels, never read
        assert model.question_errors(["what?"], [choices]) == [""]
        return
    with pytest.raises(UserError, match="the question or a choice is too long"):
        model.rank(rows.images[:1], ["what?"], [choices])
    chooser = MultipleChoiceModel(model)
    question_errors = chooser.question_errors(
        [pack_choices("what?", choices), pack_choices("what?", ["red", "blue"])]
    )
    assert [bool(fault) for fault in question_errors] == [True, False]


def test_ranking_what_just_fits(model, rows):
    choices = [["red", "blue", "light blue"]]
    question = asked(most_words(model, choices))
    assert len(model.rank(rows.images[:1], [question], choices)[0]) == 3
