"""Settings of models that their family doesn't take, all reported at once by `load_config`."""

import shutil
from pathlib import Path
from typing import get_args

import pytest
import yaml

from abo_vqa.core.checkpoint_settings import check_models
from abo_vqa.core.config import CheckpointConfig, Family, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.models.registry import family_class
from tests.support import ROOT

FAMILIES = get_args(Family)
EVERY_FAMILY = {"path", "family", "revision", "dtype", "batch_size"}
OTHERS = {  # the other settings, with a value that isn't the default
    "prompt": "what is {question}",
    "max_new_tokens": 3,
    "answer": "last_word",
    "decoding": "ranked",
    "architecture": "ViT-B-32",
    "quantize": "8bit",
    "device_map": "auto",
}


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """profile({"vilt": {...}}): settings that a test's models have besides the sample's."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)

    def write(models):
        path = tmp_path / "conf/profiles/sample.yaml"
        settings = yaml.safe_load(path.read_text())
        for name, entry in models.items():
            settings["models"].setdefault(name, {"path": "models/any"}).update(entry)
        path.write_text(yaml.safe_dump(settings))

    return write


def problems(profile, models) -> list[str]:
    profile(models)
    with pytest.raises(UserError) as error:
        load_config()
    head, *lines = str(error.value).splitlines()
    assert head.startswith(f"{len(lines)} problem(s)")
    return [line.strip() for line in lines]


def test_a_typing_error_in_a_model_of_any_name_is_one_line(profile) -> None:
    entry = {"family": "chat", "prompts": "{question}"}
    assert problems(profile, {"llava": {"prompts": ""}, "qwen-vl": entry}) == [
        f"models.{name}.prompts: unknown setting; did you mean prompt?"
        for name in ("llava", "qwen-vl")
    ]


def test_a_model_without_a_path_or_settings_is_sent_to_the_profile(profile) -> None:
    profile({})
    path = Path("conf/profiles/sample.yaml")
    written = yaml.safe_load(path.read_text())
    written["models"] |= {"one": {"family": "chat"}, "two": None, "three": "models/any"}
    path.write_text(yaml.safe_dump(written))
    with pytest.raises(UserError) as error:
        load_config()
    lines = [line.strip() for line in str(error.value).splitlines()[1:]]
    assert sorted(lines) == [
        "models.one.path: no value; set it in conf/profiles/sample.yaml",
        "models.three: found 'models/any'; input should be a group of settings, as name: value",
        "models.two: no value; set it in conf/profiles/sample.yaml",
    ]


def test_every_setting_is_in_the_table() -> None:
    # `endpoint` is where those of a model behind an API are put.
    assert {*EVERY_FAMILY, *OTHERS, "endpoint"} == set(CheckpointConfig.model_fields)


def test_each_setting_is_taken_or_refused_in_every_family(profile) -> None:
    """What is taken: `quantize` and `device_map` as the classes say, the others by hand."""
    language_models = {"blip2", "chat", "llava", "prefix"}
    taken = {
        "prompt": {*language_models, "clip", "endpoint"},
        "max_new_tokens": {*language_models, "blip"},
        "answer": {*language_models, "endpoint"},
        "architecture": {"clip"},
        "decoding": {*FAMILIES} - {"clip", "endpoint"},
    }
    for family in FAMILIES:
        supported = family_class(CheckpointConfig(path="x", family=family)).supported_settings
        for setting, value in OTHERS.items():
            entry = {"family": family, setting: value}
            message = check_models({"models": {"a-model": entry}})
            if setting in taken:
                assert (message == []) == (family in taken[setting]), (family, setting)
            elif (family, setting) != ("blip", "device_map"):  # refused where there are two GPUs
                assert (message == []) == (setting in supported), (family, setting)


def test_all_problems_at_once_with_what_to_do(profile) -> None:
    found = problems(
        profile,
        {
            "vilt": {"answer": "last_word", "max_new_tokens": 3, "prompt": "Q: {question}"},
            "my-model": {"family": "chat", "architecture": "ViT-B-32"},
            "llava": {"max_new_tokens": 0},
        },
    )
    assert len(found) == 5
    by_key = {line.partition(":")[0]: line for line in found}
    assert (
        "found 'last_word', and the family vilt doesn't take this" in by_key["models.vilt.answer"]
    )
    assert "families that do: blip2, chat, endpoint, llava, prefix" in by_key["models.vilt.answer"]
    assert (
        "the family chat doesn't take this setting; remove it"
        in by_key["models.my-model.architecture"]
    )
    assert {"models.vilt.max_new_tokens", "models.vilt.prompt"} < set(by_key)
    assert "found 0" in by_key["models.llava.max_new_tokens"]


@pytest.mark.parametrize(("setting", "value"), [("answer", "last_word"), ("max_new_tokens", 3)])
def test_what_ranking_ignores_is_refused(profile, setting, value) -> None:
    model = {"family": "chat", "decoding": "ranked", setting: value}
    (line,) = problems(profile, {"my-model": model})
    assert line.startswith(f"models.my-model.{setting}: found {value!r}, which has no effect with")


def test_a_setting_at_its_default_is_no_problem(profile) -> None:
    defaults = {"answer": "whole", "max_new_tokens": 10, "prompt": "{question}"}
    empty = {"architecture": None, "quantize": None, "device_map": None}
    profile({"vilt": {**defaults, **empty}, "blip": defaults})
    assert load_config().models.vilt.answer == "whole"


@pytest.mark.parametrize(
    ("family", "prompt", "message"),
    [
        ("chat", "Answer in one word.", "found 'Answer in one word.', which lacks {question}"),
        ("chat", "{question} {answer}", "found {answer}; filled in: {question}"),
        ("prefix", "{question} {candidate}", "found {candidate}; filled in: {question}"),
        ("clip", "{question} {word}", "found {word}; filled in: {question} and {candidate}"),
        ("clip", "{candidate} for {question}", "{candidate} has to follow {question}"),
    ],
)
def test_a_prompt_that_cant_be_filled_in(profile, family, prompt, message) -> None:
    """Nothing would fail: the model would never see the question, or read a word in braces."""
    name = "clip" if family == "clip" else "my-model"
    (found,) = problems(profile, {name: {"family": family, "prompt": prompt}})
    assert found.startswith(f"models.{name}.prompt: ")
    assert message in found


@pytest.mark.parametrize("prompt", ['{"as": "JSON"} {question}', "<image> Q: {question} A:"])
def test_prompts_that_can_be(profile, prompt) -> None:
    profile({"my-model": {"family": "chat", "prompt": prompt}})
    load_config()


@pytest.mark.parametrize("name", ["my/model", "my model", "../up", "-r", "qwen2.5-vl"])
def test_a_name_has_to_be_a_folders(profile, name) -> None:
    (found,) = problems(profile, {name: {"family": "chat"}})
    assert found.startswith(f"models.{name}: a name may have letters")


@pytest.mark.parametrize("name", ["copy", "json", "model_fields"])
def test_a_name_finds_the_model(profile, name) -> None:
    (found,) = problems(profile, {name: {"family": "chat"}})
    assert found.startswith(f"models.{name}: this name is taken by the code")


@pytest.mark.parametrize("name", ["finetuned", "blind", "blind-two", "clip-all"])
def test_a_name_has_one_meaning(profile, name) -> None:
    (found,) = problems(profile, {name: {"family": "chat"}})
    assert found.startswith(f"models.{name}: this name has a meaning already")
