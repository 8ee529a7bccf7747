"""The study's stages on a card: embed → finetune → the fine-tuned model's answers → baseline."""

import gc
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from abo_vqa.core.json_files import read_json
from abo_vqa.core.tables import read_table
from abo_vqa.stages import baseline as predict
from abo_vqa.stages import embed, finetune
from tests.support import training as project
from tests.support import workspaces
from tests.support.gpu_settings import settings
from tests.support.pretend_gpu import pretend
from tests.support.stages import answer_with_adapter, run_stage

PREDICTIONS = Path("reports/baselines/blip/predictions.csv")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspaces.workspace(tmp_path_factory.mktemp("shop"), "blip", images=10, broken=1)


@pytest.fixture
def here(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.copy(shop, tmp_path / "here"))


def walked(device: str, dtype: str = "float32", stored: str = "float32") -> SimpleNamespace:
    """All stages, one after another, and what came of them."""
    config = settings(device, dtype, stored)
    run_stage(embed, config)
    run_stage(finetune, config)
    rows = read_table("data/test.csv")
    finetuned = answer_with_adapter(config, rows)
    run_stage(predict, config, model="blip")
    return SimpleNamespace(
        training=read_json("reports/training.json"),
        finetuned=finetuned,
        baseline=read_table(PREDICTIONS),
    )


def losses(training) -> list[float]:
    return [step["loss"] for step in training["steps"]]


def trained_and_answered(found: SimpleNamespace) -> None:
    assert len(found.training["epochs"]) == 2
    assert losses(found.training)[-1] < losses(found.training)[0]
    for table in (found.finetuned, found.baseline):
        assert (table["error"] == "").sum() > 0.8 * len(table)


def test_float32_is_the_cpus(here, gpu) -> None:
    """The very losses, validation and answers: the backward pass is torch's own."""
    on_card = walked("cuda:0")
    peak = gpu.cards[0].peak
    on_cpu = walked("cpu")
    assert gpu.cards[0].peak == peak > 0
    assert losses(on_card.training) == pytest.approx(losses(on_cpu.training), rel=1e-3)
    assert on_card.training["epochs"] == on_cpu.training["epochs"]
    for name in ("finetuned", "baseline"):
        ours, theirs = getattr(on_card, name), getattr(on_cpu, name)
        assert ours["prediction"].tolist() == theirs["prediction"].tolist()
        assert ours["error"].tolist() == theirs["error"].tolist()
    trained_and_answered(on_card)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("bfloat16", "float16"), ("float16", "bfloat16")],  # without and with a gradient scaler
)
def test_half_precision(dtype: str, stored: str, here, gpu) -> None:
    trained_and_answered(walked("cuda:0", dtype, stored))


def test_the_second_card(here) -> None:
    """Nothing of a training on `cuda:1` is on the first card."""
    with pretend(cards=2) as machine:
        trained_and_answered(walked("cuda:1", "bfloat16", "float16"))
        assert machine.cards[0].peak == 0


@pytest.mark.parametrize("pinnable", [2**60, 0], ids=["pinned", "can't be pinned"])
def test_vision_outputs_in_the_machines_memory(pinnable, here, gpu, monkeypatch) -> None:
    """Where the card has no room for them; the same training, pinned or not."""
    from abo_vqa.training import run

    config = settings("cuda:0")
    run_stage(embed, config)
    run_stage(finetune, config)
    expected = losses(read_json("reports/training.json"))
    cache_vision_outputs, held = run.cache_vision_outputs, []

    def without_room(*args):
        with mock.patch.object(torch.cuda, "mem_get_info", return_value=(0, 2**30)):
            source = cache_vision_outputs(*args)
        held.append((source.vectors.device.type, source.vectors.is_pinned()))
        return source

    monkeypatch.setattr(run, "cache_vision_outputs", without_room)
    gpu.pinnable = pinnable
    run_stage(finetune, config)
    assert held == [("cpu", pinnable > 0)]
    assert losses(read_json("reports/training.json")) == pytest.approx(expected, rel=1e-5)
    gc.collect()
    assert not gpu.pinned
