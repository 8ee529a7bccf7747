"""Longer texts: the library's own one by one, whatever the batch, also where tokens are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from abo_vqa.models.writing import TextWriter, WritingOptions
from tests.support.library import LibraryModel
from tests.support.vipllava import save_vipllava
from tests.support.vlm_checkpoints import SavedCheckpoint, save_checkpoints
from tests.support.vlms import VLM_SAVERS, save_qwen2_5_vl
from tests.support.workspaces import QUESTIONS, pictures
from tests.support.writers import GOOD, save_writer

SIZES = ((48, 36), (96, 40), (40, 96), (20, 24), (200, 160))  # width, height
CHATS = [name for name, (family, _) in VLM_SAVERS.items() if family == "chat"]
NAMES = [*CHATS, "llava", "vipllava"]
GREEDY, DRAWN = WritingOptions(24, 0.0), WritingOptions(24, 0.8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SavedCheckpoint]:
    root = tmp_path_factory.mktemp("writers")
    checkpoints = save_checkpoints(root, [*CHATS, "llava"])
    folder = save_vipllava(root / "vipllava")
    return {**checkpoints, "vipllava": SavedCheckpoint(folder, "chat", "{question}")}


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [image.resize(size) for image, size in zip(pictures(5), SIZES, strict=True)]


PROMPTS = [f"{' '.join(QUESTIONS[i : 2 * i + 1])} answer in one word." for i in range(5)]
SEEDS = [3, 1, 4, 15, 9]


def encode(model: TextWriter, images: list[Image.Image]) -> list:
    return list(model.encode(model.preprocess(images)))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_texts_is_the_librarys_one_by_one(saved, images, name: str) -> None:
    model = saved[name].load(prompt="<image> {question}" if name == "llava" else "{question}")
    assert isinstance(model, TextWriter)
    prompt = "USER: <image>\n{question} ASSISTANT:" if name == "llava" else "{question}"
    library = LibraryModel(saved[name].folder, prompt)
    texts = model.write(encode(model, images), PROMPTS, SEEDS, GREEDY)
    for image, prompt, written in zip(images, PROMPTS, texts, strict=True):
        expected = library.answer(image, prompt, max_new_tokens=24)
        assert written.text == expected.text
        ended = len(expected.tokens) < 24
        assert written.finish == ("STOP" if ended else "MAX_TOKENS")
        assert written.output_tokens == len(expected.tokens) + ended
        assert written.input_tokens == library.inputs(image, prompt)["input_ids"].shape[1]
    assert len({written.text for written in texts}) >= 3


@pytest.mark.parametrize("name", ["smolvlm", "qwen2_5_vl", "gemma3", "vipllava"])
def test_what_is_drawn_doesnt_depend_on_the_batch(saved, images, name: str) -> None:
    model = saved[name].load(prompt="<image> {question}" if name == "llava" else "{question}")
    encoded = encode(model, images)
    together = model.write(encoded, PROMPTS, SEEDS, DRAWN)
    backwards = model.write(encoded[::-1], PROMPTS[::-1], SEEDS[::-1], DRAWN)[::-1]
    alone = [model.write(encoded[i : i + 1], PROMPTS[i : i + 1], [SEEDS[i]], DRAWN)[0]
             for i in range(5)]  # fmt: skip
    assert together == backwards == alone
    others = model.write(encoded, PROMPTS, [seed + 1 for seed in SEEDS], DRAWN)
    assert [text.text for text in others] != [text.text for text in together]


@pytest.mark.parametrize("name", ["smolvlm", "qwen2_5_vl", "vipllava"])
def test_words_that_look_like_special_tokens_end_no_turn(saved, images, name: str) -> None:
    """A listing may contain them; as tokens they would be the prompt's own."""
    model = saved[name].load(prompt="{question}")
    specials = ["<image>", "<|im_end|>", "<end_of_utterance>", "<|image_pad|>"]
    attack = " ".join(["a lamp", *specials, model.processor.tokenizer.eos_token])
    encoded = encode(model, images[:2])
    plain, attacked = model.write(encoded, ["a lamp", attack], [0, 0], GREEDY)
    assert plain.error == attacked.error == ""
    assert attacked.input_tokens > plain.input_tokens + len(specials)


@pytest.mark.parametrize("name", ["smolvlm", "vipllava"])
def test_a_prompt_that_is_too_long_is_that_images_error(saved, images, name: str) -> None:
    model = saved[name].load(prompt="{question}")
    prompts = ["what is it?", "color " * 600, "how many?"]
    texts = model.write(encode(model, images[:3]), prompts, [1, 2, 3], GREEDY)
    assert [bool(text.error) for text in texts] == [False, True, False]
    assert "the reply may take 24, and the model has room for 512" in texts[1].error
    assert texts[::2] == model.write(encode(model, images[:3:2]), prompts[::2], [1, 3], GREEDY)


def test_a_checkpoints_own_generation_settings_count(saved, images) -> None:
    """Qwen2.5-VL has a penalty on repetitions."""
    model = saved["qwen2_5_vl"].load(prompt="{question}")
    encoded = encode(model, images)
    before = model.write(encoded, PROMPTS, SEEDS, GREEDY)
    model.model.generation_config.repetition_penalty = 5.0
    after = model.write(encoded, PROMPTS, SEEDS, GREEDY)
    assert [text.text for text in after] != [text.text for text in before]


@pytest.mark.parametrize("starts_itself", [True, False])
def test_reasoning_is_no_part_of_the_text(
    saved, images, tmp_path: Path, starts_itself: bool
) -> None:
    """Its drafts would be taken for pairs; what is cut off within them is nothing."""
    start = "" if starts_itself else "<think>"
    thoughts = [f"{start}\nA draft: {GOOD[0]}</think>\n\n{GOOD[1]}", f"{start}\nA draft: {GOOD[0]}"]
    expected = [GOOD[1], ""]
    for number, (text, rest) in enumerate(zip(thoughts, expected, strict=True)):
        folder = save_writer(tmp_path / str(number), [text], save_qwen2_5_vl)
        if starts_itself:
            template = folder / "chat_template.jinja"
            template.write_text(f"{template.read_text()}<think>\n")
        model = SavedCheckpoint(folder, "chat", "{question}").load()
        (written,) = model.write(encode(model, images[:1]), ["a lamp"], [0], GREEDY)
        assert written.text == rest
        assert written.finish == "STOP"
