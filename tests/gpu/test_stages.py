"""The study's stages on a card: embed → finetune → the fine-tuned model's answers → baseline."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from gpu_settings import settings
from training import project

from abo_vqa import embed, finetune, predict
from abo_vqa.io import read_json, read_table

PREDICTIONS = Path("reports/baselines/blip/predictions.csv")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.workspace(tmp_path_factory.mktemp("shop"), "blip", images=10, broken=1)


@pytest.fixture
def here(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.copy(shop, tmp_path / "here"))


def walked(device: str, dtype: str = "float32", stored: str = "float32") -> SimpleNamespace:
    """All stages, one after another, and what came of them."""
    config = settings(device, dtype, stored)
    embed.run(config)
    finetune.run(config)
    rows = read_table("data/test.csv")
    finetuned = predict.predict_finetuned(config, rows)
    predict.run_model("blip", config)
    return SimpleNamespace(
        training=read_json("reports/training.json"),
        finetuned=finetuned,
        baseline=read_table(PREDICTIONS),
    )


def losses(found: SimpleNamespace) -> list[float]:
    return [step["loss"] for step in found.training["steps"]]


def trained_and_answered(found: SimpleNamespace) -> None:
    assert len(found.training["epochs"]) == 2
    assert losses(found)[-1] < losses(found)[0]
    for table in (found.finetuned, found.baseline):
        assert (table["error"] == "").sum() > 0.8 * len(table)


def test_float32_is_the_cpus(here, gpu) -> None:
    """The very losses, validation and answers: the backward pass is torch's own."""
    on_card = walked("cuda:0")
    peak = gpu.cards[0].peak
    on_cpu = walked("cpu")
    assert gpu.cards[0].peak == peak > 0
    assert losses(on_card) == pytest.approx(losses(on_cpu), rel=1e-3)
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
