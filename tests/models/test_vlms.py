"""Decoder-only families with tiny checkpoints of many real classes, against the plain library.

The library answers each row by itself: its processor, its `generate`, nothing shared or padded.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.models.registry import family_class
from tests.support.library import LibraryModel
from tests.support.models import MAKERS
from tests.support.vlms import VLM_SAVERS
from tests.support.workspaces import QUESTIONS, pictures

CPU = ComputeConfig(device="cpu", dtype="float32")
SIZES = ((48, 36), (96, 40), (40, 96), (20, 24), (200, 160))  # width, height
# Families of one architecture each: without a template, after the image.
OTHERS = {"llava": "<image> Question: {question} Answer:", "blip2": "Question: {question} Answer:"}
PROMPTS = {"chat": "{question} answer in one word.", "prefix": "answer {question}"}
NAMES = [*VLM_SAVERS, *OTHERS]
CHOICES = ("black", "round table", "two", "yes", "striped cotton")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, SimpleNamespace]:
    """Name → folder, family, and the prompt in the settings."""
    root = tmp_path_factory.mktemp("vlms")
    made = {
        name: SimpleNamespace(folder=save(root / name), family=family, prompt=PROMPTS[family])
        for name, (family, save) in VLM_SAVERS.items()
    }
    for name, prompt in OTHERS.items():
        folder = MAKERS[name](root / name)
        made[name] = SimpleNamespace(folder=folder, family=name, prompt=prompt)
    return made


@pytest.fixture(scope="module")
def libraries(folders) -> dict[str, LibraryModel]:
    """Each checkpoint as the library's auto classes load it."""
    return {
        name: LibraryModel(
            made.folder, f"<image>{made.prompt}" if made.family == "prefix" else made.prompt
        )
        for name, made in folders.items()
    }


@pytest.fixture
def load(folders):
    """load("qwen3_vl"): the family's class with the tiny weights; settings can be changed."""

    def loader(name: str, **settings):
        made = folders[name]
        named = {"path": str(made.folder), "family": made.family, "prompt": made.prompt}
        checkpoint = CheckpointConfig(**{**named, **settings})
        return family_class(checkpoint).load(checkpoint, CPU)

    return loader


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


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_the_librarys_one_by_one(load, libraries, table, name: str) -> None:
    model = load(name)
    answers = model.answer([image for image, _ in table], [question for _, question in table])
    for (image, question), answer in zip(table, answers, strict=True):
        expected = libraries[name].answer(image, question)
        assert answer.text == expected.text, question
        assert answer.confidence == pytest.approx(expected.confidence, rel=1e-3), question
    assert len({answer.text for answer in answers}) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_row_doesnt_depend_on_its_batch(load, table, name: str) -> None:
    model = load(name)
    images, questions = zip(*table, strict=True)
    together = model.answer(images, questions)
    alone = [model.answer([image], [question])[0] for image, question in table]
    assert [answer.text for answer in alone] == [answer.text for answer in together]
    for one, other in zip(alone, together, strict=True):
        assert one.confidence == pytest.approx(other.confidence, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_choices_have_the_librarys_likelihoods(load, libraries, table, name: str) -> None:
    """The library's own forward pass over prompt and choice, one row at a time."""
    model = load(name)
    rows = table[:4]
    images, questions = zip(*rows, strict=True)
    ranked = model.rank(images, questions, [CHOICES] * len(rows))
    tokens = [model.prompts.answer_tokens(choice)[:-1] for choice in CHOICES]  # without the end
    assert [model.processor.tokenizer.decode(ids).strip() for ids in tokens] == [*CHOICES]
    for (image, question), scores in zip(rows, ranked, strict=True):
        expected = [libraries[name].log_likelihood(image, question, ids) for ids in tokens]
        assert scores == pytest.approx(expected, rel=1e-4), question
