"""Memory that runs out on a card: smaller batches with the same answers, or one clear message."""

import re
from pathlib import Path

import pytest
import torch

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.tables import read_table
from abo_vqa.stages import baseline as predict
from abo_vqa.stages import embed, finetune
from tests.support import training as project
from tests.support import workspaces
from tests.support.gpu_settings import settings
from tests.support.pretend_gpu import pretend
from tests.support.stages import run_stage

NAMES = ("blip", "llava", "vilt")
COMPLAINTS = {
    "torch": torch.OutOfMemoryError,
    "driver": lambda text: torch.AcceleratorError("CUDA error: out of memory"),
    "cublas": lambda text: RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cudnn": lambda text: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspaces.workspace(tmp_path_factory.mktemp("shop"), *NAMES, images=8, broken=1)


@pytest.fixture
def here(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.copy(shop, tmp_path / "here"))


def answers(name: str, config) -> list[str]:
    run_stage(predict, config, model=name)
    return read_table(f"reports/baselines/{name}/predictions.csv")["prediction"].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_answering_in_smaller_batches(name: str, here, capsys) -> None:
    config = settings("cuda:0")
    with pretend() as machine:
        expected = answers(name, config)
        weights = live(name, config)
        room = machine.cards[0].peak - weights
    capsys.readouterr()
    with pretend(budget=weights + room // 2) as machine:
        assert answers(name, config) == expected
        assert machine.cards[0].peak <= machine.cards[0].budget
    assert "out of memory: continuing with" in capsys.readouterr().err


def live(name: str, config) -> int:
    """Bytes that a model's weights take."""
    from abo_vqa.models.registry import load_model

    before = torch.cuda.memory_allocated()
    model = load_model(name, config)
    taken = torch.cuda.memory_allocated() - before
    del model
    return taken


@pytest.mark.parametrize("complaint", COMPLAINTS.values(), ids=COMPLAINTS)
def test_every_way_of_saying_it(complaint, here, gpu, capsys) -> None:
    """Of a batch's six rows three fit, whatever they take."""
    config = settings("cuda:0")
    expected = answers("vilt", config)
    gpu.cards[0].rows_fail_from, gpu.cards[0].complaint = 4, complaint
    assert answers("vilt", config) == expected
    assert "out of memory: continuing with 3 rows" in capsys.readouterr().err


def test_a_card_on_which_nothing_fits_fails_the_stage(here, gpu) -> None:
    gpu.cards[0].rows_fail_from = 1
    with pytest.raises(UserError, match=r"out of memory"):
        run_stage(predict, settings("cuda:0"), model="vilt")
    assert not Path("reports/baselines/vilt/predictions.csv").exists()


def test_training_in_smaller_parts(here, capsys) -> None:
    config = settings("cuda:0")
    with pretend() as machine:
        run_stage(embed, config)
        run_stage(finetune, config)
        peak, expected = machine.cards[0].peak, losses()
    capsys.readouterr()
    with pretend(budget=round(0.8 * peak)):
        run_stage(finetune, config)
    assert losses() == pytest.approx(expected, rel=1e-3)
    assert re.search(
        r"out of memory: splitting batches into \d micro-batches from now on",
        capsys.readouterr().err,
    )


def losses() -> list[float]:
    return [step["loss"] for step in read_json("reports/training.json")["steps"]]
