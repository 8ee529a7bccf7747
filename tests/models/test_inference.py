"""Questions about images given as bytes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from abo_vqa.data.image_inputs import ImageQuestion
from abo_vqa.models.answering.inference import QuestionAnswerer
from abo_vqa.models.answers import Answer
from abo_vqa.models.base import VQAModel
from tests.support.serving import image_bytes

RED, WIDE = image_bytes(), image_bytes((90, 30))


class Counting(VQAModel):
    """Answers with the image's width; counts what it encodes."""

    def __init__(self):
        self.device = torch.device("cpu")
        self.encoded, self.batches = [], []

    def preprocess(self, images):
        return [image.size for image in images]

    def encode(self, pixel_values):
        self.encoded += pixel_values
        return [torch.tensor(float(width)) for width, _ in pixel_values]

    def predict_answers(self, encoded, image_index, questions):
        self.batches.append(len(questions))
        if "fail" in questions:
            raise RuntimeError("broken")
        if "memory" in questions:
            raise torch.OutOfMemoryError
        return [
            Answer(f"{int(encoded[i])} {q}", 0.5)
            for i, q in zip(image_index, questions, strict=True)
        ]

    def record(self):
        return {}


class ByQuestion(Counting):
    batch_by = "question"


@pytest.mark.parametrize("kind", [Counting, ByQuestion])
def test_an_image_is_encoded_once_for_all_its_questions(kind):
    model = kind()
    asked = [ImageQuestion(image, f"q{i}") for i in range(7) for image in (RED, WIDE)]
    answers = QuestionAnswerer(model, 3).answer(asked)
    assert [answer.text for answer in answers] == [
        f"{48 if one.image is RED else 90} {one.question}" for one in asked
    ]
    assert sorted(model.encoded) == [(48, 48), (90, 30)]
    assert max(model.batches) <= 3


def test_one_row_fails_alone():
    model = Counting()
    asked = [
        (RED, "a"),
        (RED, "fail"),
        (b"no image", "b"),
        (WIDE, "memory"),
        (WIDE, " "),
        (WIDE, "c"),
    ]
    answers = QuestionAnswerer(model, 8).answer([ImageQuestion(*one) for one in asked])
    assert [answer.text for answer in answers] == ["48 a", "", "", "", "", "90 c"]
    reasons = ["", "the model failed: broken", "not an image", "out of memory", "empty", ""]
    for answer, reason in zip(answers, reasons, strict=True):
        assert reason in answer.error
        assert bool(answer.error) == bool(reason)


def test_no_questions_and_too_many_pixels():
    answerer = QuestionAnswerer(Counting(), 8, max_pixels=1000)
    assert answerer.answer([]) == []
    (answer,) = answerer.answer([ImageQuestion(RED, "a")])
    assert "absurd dimensions, 48 x 48" in answer.error


def test_threads_take_turns():
    answerer = QuestionAnswerer(Counting(), 8)
    with ThreadPoolExecutor(8) as pool:
        asked = [[ImageQuestion(image_bytes((size, 9)), "q")] for size in range(10, 60)]
        answers = list(pool.map(answerer.answer, asked))
    assert [answer.text for (answer,) in answers] == [f"{size} q" for size in range(10, 60)]
