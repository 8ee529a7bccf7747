"""Any family from the stages to its adapter's users: plain PEFT, merged, registered, predict."""

import os
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import ADAPTER, predictions_of
from abo_vqa.core.tables import read_table
from abo_vqa.core.tracking.backend import connect
from abo_vqa.data.archive import open_archive
from abo_vqa.models.merging import merge_adapter
from abo_vqa.stages import embed, finetune
from abo_vqa.training.families.causal import CausalFamily
from abo_vqa.training.step import TrainStep
from tests.support import models as tiny
from tests.support import training as project
from tests.support import workspaces
from tests.support.stages import run_stage
from tests.support.vlms import VLM_SAVERS

PROMPTS = {
    "llava": "<image> question: {question} answer:",
    "blip2": "question: {question} answer in one word:",
    "qwen2_5_vl": "{question} answer in one word.",
    "paligemma": "answer en {question}",
}
QUICK = {"lr": 0.03, "dropout": 0.0, "r": 4, "epochs": 2, "validation": 0.25, "batch_size": 6}


@pytest.fixture(scope="module", params=list(PROMPTS))
def trained(request, tmp_path_factory):
    """A project after embed, finetune and predict with a tiny model."""
    name = request.param
    root = workspaces.workspace(tmp_path_factory.mktemp(name), images=8, broken=1)
    family, save = VLM_SAVERS.get(name, (name, tiny.MAKERS.get(name)))
    save(root / "models" / name)
    profile = root / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings["models"][name] = {
        "family": family, "path": f"models/{name}", "prompt": PROMPTS[name], "max_new_tokens": 4,
    }  # fmt: skip
    profile.write_text(yaml.safe_dump(settings))
    before = Path.cwd()
    os.chdir(root)
    try:
        project.set_lora({**QUICK, "model": name})
        for stage in ("embed", "finetune", "predict"):
            assert main([stage]) == 0
    finally:
        os.chdir(before)
    return root, name, family


def plain_answers(model, processor, rows, family, prompt) -> list[str]:
    """What the library answers, one row at a time."""
    answers = []
    with open_archive("data/raw/sample") as archive, torch.inference_mode():
        for path, question in zip(rows["image_path"], rows["question"], strict=True):
            image, text = archive.image(path), prompt.format(question=question)
            if family == "chat":
                content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
                inputs = processor.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True,
                    tokenize=True, return_dict=True, return_tensors="pt",
                )  # fmt: skip
            else:
                inputs = processor(images=image, text=text, return_tensors="pt")
            output = model.generate(**inputs, max_new_tokens=4, do_sample=False)
            new = output[0, inputs["input_ids"].shape[1] :]
            answers.append(processor.decode(new, skip_special_tokens=True).strip())
    return answers


def test_an_adapter_of_any_family(trained, monkeypatch, tmp_path):
    root, name, family = trained
    monkeypatch.chdir(root)
    config = load_config()
    report = read_json("reports/training.json")
    assert {layer.rpartition(".")[2] for layer in report["matched"]} == {"q_proj", "v_proj"}
    assert not [layer for layer in report["matched"] if "vision" in layer or "visual" in layer]
    predicted = read_table(predictions_of("finetuned"))
    rows = read_table("data/test.csv")
    answered = (predicted["error"] == "").tolist()
    rows, expected = rows[answered], predicted["prediction"][answered].tolist()
    assert rows["image_path"].nunique() > 1

    base = AutoModelForImageTextToText.from_pretrained(f"models/{name}")
    processor = AutoProcessor.from_pretrained(ADAPTER)
    before = plain_answers(base.eval(), processor, rows, family, PROMPTS[name])
    adapted = PeftModel.from_pretrained(base, ADAPTER).eval()
    assert plain_answers(adapted, processor, rows, family, PROMPTS[name]) == expected
    assert before != expected  # the adapter does something

    merged = AutoModelForImageTextToText.from_pretrained(merge_adapter(ADAPTER, tmp_path / "out"))
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert plain_answers(merged.eval(), processor, rows, family, PROMPTS[name]) == expected

    connect()
    served = mlflow.pyfunc.load_model(f"models:/{config.tracking.model_name}@latest-sample")
    images = [str(root / "data/raw/sample/images/small" / path) for path in rows["image_path"]]
    said = served.predict(pd.DataFrame({"image": images, "question": rows["question"].tolist()}))
    assert said["error"].isna().all(), said["error"].tolist()
    assert said["answer"].tolist() == expected
    token = processor.image_token
    asked = pd.DataFrame({"image": images[:2], "question": [f"{token}?", rows["question"].iloc[1]]})
    said = served.predict(asked)
    assert said["error"].tolist() == [
        f"the question contains {token}, which stands for an image", None,
    ]  # fmt: skip
    assert said["answer"].tolist() == [None, expected[1]]
    card = (ADAPTER / "README.md").read_text()
    assert "AutoModelForImageTextToText.from_pretrained" in card
    assert "BLIP's" not in card


@pytest.fixture
def llava(tmp_path, monkeypatch):
    """A project with LLaVA's vision outputs, in which training saves after each step."""
    workspaces.workspace(tmp_path, "llava", images=8, broken=1)
    monkeypatch.chdir(tmp_path)
    project.set_lora({**QUICK, "model": "llava", "dropout": 0.1, "checkpoint_minutes": 1e-9})
    run_stage(embed, load_config())
    return tmp_path


def adapter_of(**settings) -> bytes:
    """The weights that training with changed settings ends with."""
    run_stage(finetune, project.set_lora(settings))
    return (ADAPTER / "adapter_model.safetensors").read_bytes()


def test_killed_and_resumed_it_ends_with_the_same_bytes(llava, monkeypatch):
    whole = adapter_of()
    step, taken = TrainStep.__call__, []

    def dies(self, *given, **named):
        taken.append(self.state.step)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return step(self, *given, **named)

    monkeypatch.setattr(TrainStep, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        adapter_of()
    assert adapter_of() == whole
    assert taken[:5] == [0, 1, 2, 3, 3]


def test_gradient_checkpointing_changes_no_byte(llava, monkeypatch):
    whole = adapter_of()
    shutil.rmtree(ADAPTER)
    enabled = []
    enable = CausalFamily.enable_gradient_checkpointing
    monkeypatch.setattr(
        CausalFamily,
        "enable_gradient_checkpointing",
        lambda self: (enable(self), enabled.append(self.vqa.model.is_gradient_checkpointing)),
    )
    assert adapter_of(gradient_checkpointing=True) == whole
    assert enabled == [True]
