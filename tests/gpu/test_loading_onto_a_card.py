"""Weights go onto a card a tensor at a time, also where each is converted on the way."""

from pathlib import Path

import loading as benchmark
import pytest
from helpers.hub import llava
from helpers.hub.layout import write_folder

from abo_vqa.core import devices
from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.core.errors import UserError
from abo_vqa.models.llava import Llava
from abo_vqa.models.vilt import Vilt
from tests.support import models as tiny
from tests.support.pretend_gpu import pretend


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: tiny.MAKERS[name](root / name) for name in ("llava", "vilt")}


# A LLaVA of 300 MB: large beside what loading takes in any case.
TEXT = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 8,
        "num_key_value_heads": 8}  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_host_never_holds_the_whole_model(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(llava, "SMALL_TEXT", TEXT)
    write_folder(tmp_path, llava.repository(real=False, layers=6))
    peak, there = benchmark.measure(tmp_path)
    assert there > 300_000_000
    assert peak < 0.5 * there  # converted in the host's memory first, it would be all of it


def test_a_model_larger_than_the_card_is_refused_before_it_is_read(folders) -> None:
    checkpoint = CheckpointConfig(path=str(folders["llava"]))
    with (
        pretend(budget=100_000),
        pytest.raises(UserError, match=r"weights take .* in bfloat16, and .* GB free.*quantize"),
    ):
        Llava.load(checkpoint, ComputeConfig(device="cuda", dtype="bfloat16"))


def test_memory_that_runs_out_while_loading(folders, monkeypatch) -> None:
    """Free memory is an estimate: another process may take it meanwhile."""
    from abo_vqa.models import loading

    monkeypatch.setattr(loading, "require_memory", lambda *args: None)
    with (
        pretend(budget=100_000),
        pytest.raises(UserError, match=r"out of memory while loading.*quantize"),
    ):
        Vilt.load(
            CheckpointConfig(path=str(folders["vilt"])),
            ComputeConfig(device="cuda", dtype="float32"),
        )


def test_the_card_decides_on_the_format(folders, capsys) -> None:
    devices._warn_once.cache_clear()  # another test may have been told
    checkpoint = CheckpointConfig(path=str(folders["vilt"]))
    with pretend(capability=(7, 5)):
        model = Vilt.load(checkpoint, ComputeConfig(device="auto", dtype="bfloat16"))
        assert model.record()["dtype"] == "float16"
        assert model.record()["device"] != "cpu"
    assert "has no arithmetic in bfloat16: taking float16" in capsys.readouterr().err
