"""Decoder-only families with tiny checkpoints of many real classes, against the plain library.

The library answers each row by itself: its processor, its `generate`, nothing shared or padded.
"""

from __future__ import annotations

import string

import pytest
import torch
from PIL import Image

from tests.support.library import LibraryModel
from tests.support.vlm_checkpoints import VLM_NAMES, SavedCheckpoint, save_checkpoints
from tests.support.vlms import VLM_SAVERS
from tests.support.workspaces import QUESTIONS, pictures

SIZES = ((48, 36), (96, 40), (40, 96), (20, 24), (200, 160))  # width, height
CHOICES = ("black", "round table", "two", "yes", "striped cotton")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, SavedCheckpoint]:
    return save_checkpoints(tmp_path_factory.mktemp("vlms"))


@pytest.fixture(scope="module")
def libraries(saved) -> dict[str, LibraryModel]:
    """Each checkpoint as the library's auto classes load it."""
    return {
        name: LibraryModel(
            made.folder, f"<image>{made.prompt}" if made.family == "prefix" else made.prompt
        )
        for name, made in saved.items()
    }


@pytest.fixture(scope="module")
def table() -> list[tuple[Image.Image, str]]:
    """Rows about images of different sizes, with several questions each, of several lengths."""
    images = [image.resize(size) for image, size in zip(pictures(5), SIZES, strict=True)]
    rows = [
        (image, QUESTIONS[(i + 3 * k) % len(QUESTIONS)])
        for i, image in enumerate(images)
        for k in range(3)
    ]
    return rows[::2] + rows[1::2]  # an image's rows needn't follow each other


@pytest.mark.parametrize("name", list(VLM_SAVERS))
def test_tiny_checkpoints_answer_by_image_and_question(libraries, name: str) -> None:
    """A test with a model that always says the same would prove nothing."""
    images = [image.resize(size) for image, size in zip(pictures(3), SIZES, strict=False)]
    answers = [[libraries[name].answer(image, q) for q in QUESTIONS[:4]] for image in images]
    assert len({len(answer.tokens) for row in answers for answer in row}) >= 2, answers
    assert all(len({answer.text for answer in row}) > 1 for row in answers), answers
    assert any(len({row[k].text for row in answers}) > 1 for k in range(4)), answers


@pytest.mark.parametrize("name", VLM_NAMES)
def test_answers_are_the_librarys_one_by_one(saved, libraries, table, name: str) -> None:
    model = saved[name].load()
    answers = model.answer([image for image, _ in table], [question for _, question in table])
    for (image, question), answer in zip(table, answers, strict=True):
        expected = libraries[name].answer(image, question)
        assert answer.text == expected.text, question
        assert answer.confidence == pytest.approx(expected.confidence, rel=1e-3), question
    assert len({answer.text for answer in answers}) >= 3


@pytest.mark.parametrize("name", VLM_NAMES)
def test_a_row_doesnt_depend_on_its_batch(saved, table, name: str) -> None:
    model = saved[name].load()
    images, questions = zip(*table, strict=True)
    together = model.answer(images, questions)
    alone = [model.answer([image], [question])[0] for image, question in table]
    assert [answer.text for answer in alone] == [answer.text for answer in together]
    for one, other in zip(alone, together, strict=True):
        assert one.confidence == pytest.approx(other.confidence, rel=1e-3)


@pytest.mark.parametrize("name", VLM_NAMES)
def test_choices_have_the_librarys_likelihoods(saved, libraries, table, name: str) -> None:
    """The library's own forward pass over prompt and choice, one row at a time."""
    model = saved[name].load()
    rows = table[:4]
    images, questions = zip(*rows, strict=True)
    ranked = model.rank(images, questions, [CHOICES] * len(rows))
    tokens = [model.prompts.answer_tokens(choice)[:-1] for choice in CHOICES]  # without the end
    assert [model.processor.tokenizer.decode(ids).strip() for ids in tokens] == [*CHOICES]
    for (image, question), scores in zip(rows, ranked, strict=True):
        expected = [libraries[name].log_likelihood(image, question, ids) for ids in tokens]
        assert scores == pytest.approx(expected, rel=1e-4), question


@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "smolvlm", "gemma3"])
def test_an_empty_choice_is_as_likely_as_an_end(saved, libraries, table, name: str) -> None:
    """Without a token of its own it would be certain, or end the batch."""
    model, (image, question) = saved[name].load(), table[0]
    tokens = model.prompts.answer_tokens("")[-1:]
    [scores] = model.rank([image], [question], [["red", ""]])
    expected = libraries[name].log_likelihood(image, question, tokens)
    if model.prompts.answer_tokens("") == tokens:
        assert scores[1] == pytest.approx(expected, rel=1e-4)
    assert max(scores) < 0


def test_a_question_before_the_image(saved, libraries, table) -> None:
    """Then nothing that precedes the image is common to its questions."""
    prompt = "{question} <image> answer"
    model = saved["without_template"].load(prompt=prompt)
    library = LibraryModel(saved["without_template"].folder, prompt)
    images, questions = zip(*table, strict=True)
    for (image, question), answer in zip(table, model.answer(images, questions), strict=True):
        expected = library.answer(image, question)
        assert answer.text == expected.text
        assert answer.confidence == pytest.approx(expected.confidence, rel=1e-3)


def test_a_chat_family_without_a_template_is_asked_with_the_prompt_alone(saved, table) -> None:
    made = saved["without_template"]
    images, questions = zip(*table, strict=True)
    answers = made.load(family="chat").answer(images, questions)
    assert answers == made.load(family="prefix").answer(images, questions)


@pytest.mark.parametrize("name", ["smolvlm", "qwen3_vl", "gemma3", "paligemma"])
def test_the_last_word_alone(saved, table, name: str) -> None:
    images, questions = zip(*table, strict=True)
    whole = saved[name].load().answer(images, questions)
    last = saved[name].load(answer="last_word").answer(images, questions)
    assert [answer.text for answer in last] != [answer.text for answer in whole]
    for one, word in zip(whole, last, strict=True):
        assert word.text == (one.text.split() or [""])[-1].strip(string.punctuation)
        assert word.confidence == one.confidence


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_positions_of_an_image_are_rows_and_columns(saved, libraries, table, name: str) -> None:
    """With positions one after another the library itself would answer differently.

    So the tests above, which compare answers and likelihoods, would fail.
    """
    image, question = table[0]
    model, library = saved[name].load(), libraries[name]
    inputs = dict(library.inputs(image, question))
    layout = model.preprocess([image])[0].layout
    positions = model.make_prompt(layout, question).positions  # [3, L]
    count = inputs["input_ids"].shape[1]
    assert positions.shape == (3, count)
    assert positions.max() + 1 < count
    in_a_row = torch.arange(count).expand(3, 1, -1)
    with torch.inference_mode():
        right = library.model(**inputs).logits[0, -1]
        same = library.model(**inputs, position_ids=positions[:, None]).logits[0, -1]
        wrong = library.model(**inputs, position_ids=in_a_row).logits[0, -1]
    torch.testing.assert_close(same, right, rtol=1e-4, atol=1e-4)
    assert (wrong - right).abs().max() > 0.01


@pytest.mark.parametrize("name", ["paligemma", "paligemma2", "gemma3"])
def test_what_attends_in_both_directions(saved, libraries, table, name: str) -> None:
    """With causal attention alone the library itself would answer differently."""
    image, question = table[0]
    inputs = dict(libraries[name].inputs(image, question))
    inputs.pop("labels", None)
    types = inputs["token_type_ids"]
    causal = torch.zeros_like(types) if name == "gemma3" else torch.ones_like(types)
    with torch.inference_mode():
        right = libraries[name].model(**inputs).logits[0, -1]
        wrong = libraries[name].model(**{**inputs, "token_type_ids": causal}).logits[0, -1]
    assert (wrong - right).abs().max() > 0.01
