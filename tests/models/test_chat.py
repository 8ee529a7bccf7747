"""The generic way: any chat model of transformers, by `family: chat` in the profile."""

from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml

from abo_vqa.cli import main
from abo_vqa.core.config import CheckpointConfig, Family, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from abo_vqa.models.registry import FAMILIES, family_class, load_model, model_names
from tests.support import workspaces


def profile_with(tmp_path: Path, name: str, **entry: str) -> Path:
    """A workspace whose profile names one more model, with the tiny chat model's weights."""
    root = workspaces.workspace(tmp_path, "chat", images=2)
    profile = root / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    chat = settings["models"].pop("chat")
    settings["models"][name] = {"path": chat["path"], **entry}
    settings["batch_sizes"][name] = settings["batch_sizes"].pop("chat")
    profile.write_text(yaml.safe_dump(settings))
    return root


@pytest.mark.parametrize("name", ["smolvlm", "my-model"])
def test_a_new_model_is_a_name_a_family_and_a_folder(tmp_path, monkeypatch, rows, name) -> None:
    """Three words in the profile: nothing else knows of it."""
    monkeypatch.chdir(profile_with(tmp_path, name, family="chat"))
    config = load_config()
    assert name in model_names(config)
    model = load_model(name, config)
    assert type(model.model).__name__ == "Idefics3ForConditionalGeneration"
    answers = model.answer(rows.images[:3], rows.questions[:3])
    assert all(answer.text and not answer.error for answer in answers)


def test_it_answers_a_baseline_like_any_other(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(profile_with(tmp_path, "my-model", family="chat"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert main(["baseline", "--model", "my-model"]) == 0
    table = read_table("reports/baselines/my-model/predictions.csv")
    assert len(table) == 6
    assert (table["prediction"] != "").sum() >= 3


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("my-model", {}, "models.my-model.family: no value; allowed: blip, blip2, chat, "),
        ("my-model", {"family": "cat"}, "models.my-model.family: found 'cat'; .*'blip2', 'chat'"),
        ("blip", {"family": "chat"}, "models.blip.family: found 'chat'; .* must be blip"),
    ],
)
def test_a_wrong_family_is_one_message(tmp_path, monkeypatch, name, entry, message) -> None:
    monkeypatch.chdir(profile_with(tmp_path, name, **entry))
    with pytest.raises(UserError, match=message) as error:
        load_config()
    assert str(error.value).startswith("1 problem(s)")


def test_every_family_has_a_class() -> None:
    assert set(FAMILIES) == set(get_args(Family))
    for family in FAMILIES:
        settings = family_class(CheckpointConfig(path="x", family=family)).supported_settings
        assert bool(settings) == (family != "endpoint"), family  # which has no weights


def test_rank_is_the_likelihood_of_the_library(load, rows) -> None:
    """Sum of log-probabilities from the library's own forward, one choice at a time."""
    model = load("chat")
    choices = ["black", "round table", "two"]
    ranked = model.rank(rows.images[:3], rows.questions[:3], [choices] * 3)
    for image, question, scores in zip(rows.images, rows.questions, ranked, strict=False):
        message = [{"type": "image", "image": image}, {"type": "text"}]
        message[1]["text"] = model.checkpoint.prompt.format(question=question)
        prompt = model.processor.apply_chat_template(
            [{"role": "user", "content": message}],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
        first = prompt["input_ids"].shape[1]
        for choice, score in zip(choices, scores, strict=True):
            words = model.processor.tokenizer(f" {choice}", add_special_tokens=False)
            more = torch.tensor([words["input_ids"]])
            whole = dict(prompt)
            whole["input_ids"] = torch.cat([prompt["input_ids"], more], dim=1)
            whole["attention_mask"] = torch.ones_like(whole["input_ids"])
            with torch.no_grad():
                logits = model.model(**whole).logits[0]
            log_p = logits.log_softmax(-1)[first - 1 : -1].gather(1, more[0][:, None]).sum()
            assert score == pytest.approx(float(log_p), rel=1e-4)
