"""Interrupted anywhere, training ends with the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from abo_vqa import finetune
from abo_vqa.errors import Reclaimed
from abo_vqa.io import file_md5, read_json
from abo_vqa.training.checkpoints import Checkpoints

from . import project

OUTPUTS = ("models/adapter/adapter_model.safetensors", "models/adapter/adapter_config.json",
           "models/adapter/README.md", "reports/training.json")  # fmt: skip


class Crash(Exception):
    pass


def hashes() -> list[str]:
    return [file_md5(path) for path in OUTPUTS]


def at(step: int, act):
    """A log that does something once the loss of a step is known."""
    return lambda metrics, now: act() if now == step and "loss" in metrics else None


def crash() -> None:
    raise Crash


@pytest.fixture(scope="module")
def straight(made, tmp_path_factory):
    """Hashes of an uninterrupted run, and its number of steps."""
    folder = project.copy(made, tmp_path_factory.mktemp("straight") / "here")
    before = Path.cwd()
    os.chdir(folder)
    try:
        finetune.run(project.load_config())
        return hashes(), len(read_json("reports/training.json")["steps"])
    finally:
        os.chdir(before)


@pytest.mark.parametrize("minutes", [1e-9, 60.0], ids=["each-step", "each-epoch"])
def test_a_crash_at_every_step(here, straight, minutes):
    """Even if every single step is followed by a crash (with a checkpoint before it)."""
    expected, steps = straight
    config = project.set_lora({"checkpoint_minutes": minutes})
    crashed = 0
    for step in range(1, steps + 1):
        try:
            finetune.run(config, at(step, crash))
        except Crash:
            crashed += 1
    finetune.run(config)
    assert crashed == steps
    assert hashes() == expected


DRIVER = """
import os, signal, sys
from abo_vqa import finetune
from abo_vqa.config import load_config
step = int(sys.argv[1])
def log(metrics, now):
    if now == step and "loss" in metrics:
        os.kill(os.getpid(), signal.SIGKILL)
finetune.run(load_config(), log)
"""


def test_kill_9(here, straight):
    """A real SIGKILL in a process of its own, with another hash seed."""
    expected, steps = straight
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-W", "ignore", "-c", DRIVER, str(steps // 2 + 1)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    seen: list[int] = []
    finetune.run(project.load_config(), lambda metrics, step: seen.append(step))
    assert min(seen) > steps // 2
    assert hashes() == expected


def test_sigterm_saves_and_says_so(here, straight):
    expected, _ = straight
    config = project.set_lora({"checkpoint_minutes": 60.0})
    with pytest.raises(Reclaimed, match="at step 2; run it again") as stopped:
        finetune.run(config, at(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert stopped.value.exit_code == 143
    assert not Path("models/adapter").exists()
    seen: list[int] = []
    finetune.run(config, lambda metrics, step: seen.append(step))
    assert min(seen) == 3
    assert hashes() == expected
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path, capsys):
    kept = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        kept.save(step, {"step": step})
    assert [file.name for file in kept.files()] == ["step-00000002.pt", "step-00000003.pt"]
    kept.files()[-1].write_bytes(kept.files()[-1].read_bytes()[:-100])
    assert kept.load() == {"step": 2}
    assert "step-00000003.pt can't be read" in capsys.readouterr().err


def test_outputs_name_no_time_and_no_place(here):
    finetune.run(project.load_config())
    for path in OUTPUTS[1:]:
        text = Path(path).read_text()
        assert str(here) not in text
        assert "seconds" not in text
