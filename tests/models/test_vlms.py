"""Decoder-only families with tiny checkpoints of many real classes, against the plain library."""

import pytest

from tests.support.library import LibraryModel
from tests.support.vlms import VLM_SAVERS
from tests.support.workspaces import QUESTIONS, pictures

SIZES = ((48, 36), (96, 40), (20, 24))  # width, height


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> dict[str, LibraryModel]:
    """Each checkpoint as the library's auto classes load it."""
    root = tmp_path_factory.mktemp("vlms")
    prompts = {"chat": "{question}", "prefix": "<image>{question}"}
    return {
        name: LibraryModel(save(root / name), prompts[family])
        for name, (family, save) in VLM_SAVERS.items()
    }


@pytest.mark.parametrize("name", list(VLM_SAVERS))
def test_tiny_checkpoints_answer_by_image_and_question(libraries, name: str) -> None:
    """A test with a model that always says the same would prove nothing."""
    images = [image.resize(size) for image, size in zip(pictures(3), SIZES, strict=True)]
    table = [[libraries[name].answer(image, q) for q in QUESTIONS[:4]] for image in images]
    answers = [answer for row in table for answer in row]
    assert len({len(answer.tokens) for answer in answers}) >= 2, answers
    assert all(len({answer.text for answer in row}) > 1 for row in table), table
    assert any(len({row[k].text for row in table}) > 1 for k in range(4)), table
