"""The generic way: any chat model of transformers, by its name in the profile and in FAMILIES."""

import pytest
import torch

from abo_vqa.config import load_config
from abo_vqa.models.registry import FAMILIES, load_model
from tests.support import models as tiny


def test_a_new_model_is_a_name_and_a_folder(tmp_path, monkeypatch, rows) -> None:
    """SmolVLM's line in FAMILIES, a path in the profile: nothing else knows of it."""
    import yaml

    root = tiny.workspace(tmp_path, "chat", images=2)
    profile = root / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    for section in ("models", "batch_sizes"):
        settings[section]["smolvlm"] = settings[section].pop("chat")
    profile.write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(root)
    assert "smolvlm" in FAMILIES
    model = load_model("smolvlm", load_config())
    assert type(model.model).__name__ == "Idefics3ForConditionalGeneration"
    answers = model.answer(rows.images[:3], rows.questions[:3])
    assert all(answer.text and not answer.error for answer in answers)


def test_rank_is_the_likelihood_of_the_library(load, rows) -> None:
    """Sum of log-probabilities from the library's own forward, one choice at a time."""
    model = load("chat")
    choices = ["black", "round table", "two"]
    ranked = model.rank(rows.images[:3], rows.questions[:3], [choices] * 3)
    for image, question, scores in zip(rows.images, rows.questions, ranked, strict=False):
        prompt = model.build_inputs([image], [0], [question])
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
