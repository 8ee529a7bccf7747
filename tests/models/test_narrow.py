"""Pictures of one pixel, or all length: answered, or refused by themselves."""

import pandas as pd
import pytest
from PIL import Image

from abo_vqa.core.errors import UserError
from abo_vqa.models.answering.batches import AdaptiveBatcher
from abo_vqa.models.answering.multiple_choice import MultipleChoiceModel
from abo_vqa.models.sources import ImageFiles
from tests.support import models as tiny

SIZES = [(1, 1), (3, 3), (3, 2), (1, 60), (60, 3), (900, 1), (1, 900)]
OPTIONS = {"clip": {"candidates": tiny.ANSWERS}}


def picture(size):
    return Image.new("RGB", size, (200, 30, 30))


@pytest.mark.parametrize("name", sorted(tiny.MAKERS))
def test_one_odd_picture_costs_itself_only(load, rows, name):
    model = load(name, **OPTIONS.get(name, {}))
    images = {str(size): picture(size) for size in SIZES} | {"usual": rows.pictures[0]}
    table = pd.DataFrame({"image_path": list(images), "question": "is it red?"})
    found = AdaptiveBatcher(model, ImageFiles(images.__getitem__)).answer(table)
    (alone,) = model.answer([images["usual"]], ["is it red?"])
    assert found[-1].text == alone.text
    for answer in found:
        assert not answer.error or answer.error.startswith("the image is too narrow: ")
    assert name == "vilt" or not any(answer.error for answer in found)


def test_vilt_refuses_what_its_processor_cannot_scale_and_nothing_else(load):
    model = load("vilt")
    refused = set()
    for long in range(1, 300):
        for size in ((long, 7), (7, long), (long, 31)):
            fault = model.image_error(picture(size))
            if fault:
                refused.add(size)
                with pytest.raises(ValueError, match="Size must contain"):
                    model.processor.image_processor(images=picture(size))
                with pytest.raises(UserError, match=r"too narrow: \d+ x \d+"):
                    model.answer([picture(size)], ["is it red?"])
            else:
                model.processor.image_processor(images=picture(size))
    assert {(100, 7), (7, 100), (250, 31), (1, 31)} <= refused
    assert not {(20, 7), (7, 20), (99, 31)} & refused
    chooser = MultipleChoiceModel(model)
    assert chooser.image_error(picture((100, 7))) == model.image_error(picture((100, 7)))
