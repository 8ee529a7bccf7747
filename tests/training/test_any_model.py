"""Everything that BLIP's training has holds for decoder-only models.

LLaVA's images have equally many tokens; Qwen3-VL's differ, and enter three layers.
"""

import os
import signal
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import TerminatedError, UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import ADAPTER, TRAIN
from abo_vqa.core.tables import read_table
from abo_vqa.models.merging import merge_adapter
from abo_vqa.models.registry import load_model
from abo_vqa.stages import finetune, predict
from abo_vqa.training.families.causal import CausalFamily
from tests.support import training as project
from tests.support.forks import Fork
from tests.support.stages import run_stage

from .test_loop import EXACT, assert_same, rank_zero, trained, trained_by_two  # noqa: F401
from .test_resume import CrashError, at, crash, hashes

LOSS = CausalFamily.loss
MODELS = ("llava", pytest.param("qwen3_vl", marks=pytest.mark.slow))


@pytest.fixture(scope="module", params=MODELS)
def vlm_template(request, tmp_path_factory):
    return project.make_with(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def workspace(vlm_template, tmp_path, monkeypatch):
    """A fresh copy of the project as the current folder."""
    monkeypatch.chdir(project.copy(vlm_template, tmp_path / "workspace"))
    return tmp_path / "workspace"


def predictions() -> list[str]:
    """The fine-tuned model's answers, by the stage; all rows but those of the broken image."""
    run_stage(predict, load_config())
    table = read_table("reports/finetuned/predictions.csv")
    return table["prediction"][table["error"] == ""].tolist()


def test_interrupted_anywhere_it_ends_with_the_same_bytes(workspace):
    """After a crash at each step, and after a real kill -9 in a process of its own."""
    config = load_config()
    run_stage(finetune, config)
    expected, steps = hashes(), len(read_json("reports/training.json")["steps"])
    for step in range(1, steps + 1):
        with pytest.raises(CrashError):
            run_stage(finetune, config, at(step, crash))
    run_stage(finetune, config)
    assert hashes() == expected
    killed = Fork(project.finetune_here, steps // 2 + 1)
    stderr = killed.wait()
    assert killed.returncode == -signal.SIGKILL, stderr[-2000:]
    run_stage(finetune, config)
    assert hashes() == expected


def test_rows_that_cant_be_asked_are_left_out(workspace, capsys):
    """An image token would be taken for an image, and end the training."""
    token = load_model("vlm", load_config()).processor.image_token
    table, config = read_table(TRAIN), project.set_lora({"validation": 0})
    table["question"] = [f"what is {token}?", *table["question"].iloc[1:]]
    table["answer"] = ["red", token, "red " * 600, *table["answer"].iloc[3:]]
    table.to_csv(TRAIN, index=False)
    run_stage(finetune, config)
    message = f"training rows are left out: the question contains {token}, which stands for"
    counts, _, _ = capsys.readouterr().err.partition(message)
    left_out, _, total = counts.splitlines()[-1].split()[:3]
    assert (left_out, read_json("reports/training.json")["rows"]) == ("3", int(total) - 3)
    table["answer"] = token
    table.to_csv(TRAIN, index=False)
    with pytest.raises(UserError, match="has no row left to train on"):
        run_stage(finetune, config)


def test_a_signal_saves_and_says_so(workspace):
    def log(metrics, step):
        if step == 1 and "loss" in metrics:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TerminatedError, match="stopped by SIGTERM after epoch 1"):
        run_stage(finetune, load_config(), log)
    resumed: list[int] = []
    run_stage(finetune, load_config(), lambda metrics, step: resumed.append(step))
    assert min(resumed) > 1


def test_batches_that_dont_fit_are_halved(workspace, monkeypatch, capsys):
    whole = trained(EXACT)

    def loss(self, batch):
        if len(batch.rows) > 3:
            raise RuntimeError("CUDA driver error: out of memory")
        return LOSS(self, batch)

    monkeypatch.setattr(CausalFamily, "loss", loss)
    assert_same(whole, trained(EXACT))
    assert "into 2 micro-batches from now on" in capsys.readouterr().err


def test_two_processes_take_the_same_steps(workspace, request):
    one = trained(EXACT)
    (ADAPTER / "adapter_model.safetensors").unlink()
    assert_same(one, trained_by_two(request.getfixturevalue("rank_zero")))


@pytest.mark.parametrize("variant", [{}, {"dora": True}, {"rslora": True}], ids=str)
def test_plain_peft_loads_it_on_the_base(workspace, variant):
    """Its logits are those of our merged model, and the stage answers with them."""
    run_stage(finetune, project.set_lora(variant))
    config = load_config()
    checkpoint = config.models.vlm
    base = AutoModelForImageTextToText.from_pretrained(checkpoint.path, dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, ADAPTER).eval()
    before = [p.detach().clone() for n, p in plain.named_parameters() if "lora_B" in n]
    assert all(float(p.abs().max()) > 0 for p in before)
    ours = load_model("vlm", config, adapter=ADAPTER)
    ids = torch.arange(3, 13)[None]
    with torch.inference_mode():
        expected = plain(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        merged = ours.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)
    assert len(predictions()) >= 3


def test_merged_it_needs_no_peft(workspace):
    """The merged checkpoint's logits are those of the base with the adapter."""
    run_stage(finetune, load_config())
    adapted = load_model("vlm", load_config(), adapter=ADAPTER)
    merge_adapter(ADAPTER, Path("models/merged"))
    profile = Path("conf/profiles/sample.yaml")
    path = load_config().models.vlm.path
    profile.write_text(profile.read_text().replace(f"path: {path}\n", "path: models/merged\n"))
    merged = load_model("vlm", load_config())
    assert merged.checkpoint.path == "models/merged"
    ids = torch.arange(3, 13)[None]
    with torch.inference_mode():
        logits = [m.model(input_ids=ids, attention_mask=ids > 0).logits for m in (merged, adapted)]
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)


def test_a_quantised_base_is_trained(workspace):
    """8 bits: the vision outputs are the quantised model's own."""
    pytest.importorskip("bitsandbytes")
    from abo_vqa.stages import embed

    params = Path("conf/profiles/sample.yaml")
    text = params.read_text()
    assert text.count("  vlm:\n") == 1
    params.write_text(text.replace("  vlm:\n", "  vlm:\n    quantize: 8bit\n"))
    config = load_config()
    assert config.models.vlm.quantize == "8bit"
    run_stage(embed, config)
    run_stage(finetune, config)
    assert len(predictions()) >= 3
