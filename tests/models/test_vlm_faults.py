"""Decoder-only models: what one row or one setting does wrong is told, and costs no other row."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from abo_vqa.core.errors import UserError
from abo_vqa.models.answering.batches import AdaptiveBatcher
from abo_vqa.models.answering.ranked import RankedModel
from abo_vqa.models.answers import CandidateAnswers
from abo_vqa.models.sources import ImageFiles
from tests.support.vlm_checkpoints import VLM_NAMES, SavedCheckpoint, save_checkpoints
from tests.support.workspaces import pictures

SIZES = [(1, 1), (3, 3), (3, 2), (1, 60), (60, 3), (900, 1), (1, 900), (48, 36)]
QWEN = ("qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, SavedCheckpoint]:
    return save_checkpoints(tmp_path_factory.mktemp("vlms"))


def answers_of(model, images: dict[str, Image.Image], questions: list[str], threads: int = 1):
    rows = pd.DataFrame({"image_path": list(images), "question": questions})
    return AdaptiveBatcher(model, ImageFiles(images.__getitem__, threads)).answer(rows)


@pytest.mark.parametrize("name", VLM_NAMES)
def test_an_image_that_the_processor_refuses_costs_its_own_rows(saved, name: str) -> None:
    """Images of a pixel are answered; those that are all length are refused by Qwen alone."""
    model = saved[name].load()
    images = {str(size): pictures(1)[0].resize(size) for size in SIZES}
    answers = answers_of(model, images, ["is it red?"] * len(images))
    refused = {path: a.error for path, a in zip(images, answers, strict=True) if a.error}
    assert set(refused) == ({"(900, 1)", "(1, 900)"} if name in QWEN else set())
    for error in refused.values():
        assert "can't be prepared: absolute aspect ratio must be smaller than 200" in error
    assert answers[-1].text == model.answer([images["(48, 36)"]], ["is it red?"])[0].text


def test_images_in_chunks_of_several_threads(saved) -> None:
    images = {f"{i}": image for i, image in enumerate(pictures(20))}
    images |= {"long": Image.new("RGB", (900, 1)), "last": pictures(1)[0]}
    questions = ["what?"] * len(images)
    answers = answers_of(saved["qwen3_vl"].load(), images, questions, threads=3)
    assert [bool(answer.error) for answer in answers] == [path == "long" for path in images]


def test_a_single_question_about_such_an_image_is_one_message(saved) -> None:
    model = saved["qwen2_5_vl"].load()
    with pytest.raises(UserError, match=r"the image \(900 x 1\) can't be prepared: absolute asp"):
        model.answer([Image.new("RGB", (900, 1))], ["what?"])


@pytest.mark.parametrize("name", VLM_NAMES)
def test_questions_that_cant_be_asked_are_told_row_by_row(saved, name: str) -> None:
    model = saved[name].load()
    token = str(model.processor.image_token)
    asked = ["is it red?", f"is {token} red?", "  ", "is it red? " * 300, "what?"]
    images = {f"{i}": image for i, image in enumerate(pictures(len(asked)))}
    answers = answers_of(model, images, asked)
    assert [bool(answer.error) for answer in answers] == [False, True, True, True, False]
    assert answers[1].error == f"the question contains {token}, which stands for an image"
    assert answers[2].error == "the question is empty"
    assert "the question is too long: " in answers[3].error
    for row in (0, 4):
        assert answers[row].text == model.answer([images[f"{row}"]], [asked[row]])[0].text


@pytest.mark.parametrize("name", ["gemma3", "paligemma2"])
def test_a_question_longer_than_the_window_costs_its_own_row_of_ranking(saved, name: str) -> None:
    """It can be asked, but choices behind it would have to see a part of it only."""
    model = saved[name].load()
    ranked = RankedModel(model, CandidateAnswers(("red", "two"), 2, "first_token"))
    asked = ["is it red? " * 70, "what?"]  # 256 tokens are the window, 512 the positions
    images = {f"{i}": image for i, image in enumerate(pictures(2))}
    assert [a.error for a in answers_of(model, images, asked)] == ["", ""]
    long, short = answers_of(ranked, images, asked)
    assert "the question or a choice is too long: " in long.error
    assert "room for 256" in long.error
    assert short.text in ("red", "two")


@pytest.mark.parametrize("name", VLM_NAMES)
def test_choices_with_an_image_token_are_told_row_by_row(saved, name: str) -> None:
    model = saved[name].load()
    token = str(model.processor.image_token)
    choices = [["red", "blue"], ["red", token]]
    errors = model.question_errors(["what?", "what?"], choices)
    assert errors == ["", f"a choice contains {token}, which stands for an image"]


@pytest.mark.parametrize("name", VLM_NAMES)
def test_a_prompt_with_too_many_images_is_refused_at_loading(saved, name: str) -> None:
    token = str(saved[name].load().processor.image_token)
    with pytest.raises(UserError, match=r"makes \d images of one\. Leave .* out of it"):
        saved[name].load(prompt=f"{token}{token} {{question}}")


def with_template(made: SavedCheckpoint, folder: Path, template: str) -> SavedCheckpoint:
    shutil.copytree(made.folder, folder)
    (folder / "chat_template.jinja").write_text(template)
    return SavedCheckpoint(folder, "chat", made.prompt)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for m in messages %}{{ m['role'] }}: {{ m['content'][1]['text'] }}{% endfor %}",
            r"its chat template has no place for an image \(<image>\)",
        ),
        ("{{ raise_exception('only text') }}", "its chat template fails: only text"),
        ("{% for", "its chat template fails: "),
    ],
)
def test_a_template_that_cant_show_an_image(saved, tmp_path, template, message) -> None:
    """A language model's template on a vision-language model: the image would be left out."""
    made = with_template(saved["smolvlm"], tmp_path / "broken", template)
    with pytest.raises(UserError, match=message):
        made.load()


@pytest.mark.skipif(find_spec("num2words") is not None, reason="the package is installed")
def test_a_processor_that_needs_another_package_says_which(saved, tmp_path) -> None:
    """SmolVLM 2's, for videos."""
    shutil.copytree(saved["smolvlm"].folder, tmp_path / "smolvlm2")
    path = tmp_path / "smolvlm2/processor_config.json"
    settings = json.loads(path.read_text()) | {"processor_class": "SmolVLMProcessor"}
    settings["video_processor"] = {"video_processor_type": "SmolVLMVideoProcessor"}
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"can't load .* Install it with `pip install num2words`"):
        SavedCheckpoint(path.parent, "chat", "{question}").load()


def test_a_model_of_another_kind_is_named(saved, tmp_path) -> None:
    folder = tmp_path / "unknown"
    shutil.copytree(saved["paligemma"].folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-type"}))
    with pytest.raises(UserError, match="can't load the checkpoint"):
        SavedCheckpoint(folder, "prefix", "{question}").load()
