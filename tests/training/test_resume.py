"""Interrupted anywhere, training ends with the same bytes."""

import os
import signal
from pathlib import Path

import pytest
import torch

from abo_vqa.core.errors import TerminatedError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.json_files import read_json
from abo_vqa.stages import finetune
from abo_vqa.training import run
from abo_vqa.training.checkpoints import CheckpointManager
from tests.support import training as project
from tests.support.forks import Fork
from tests.support.pretend_gpu import pretend
from tests.support.stages import run_stage

OUTPUTS = ("models/adapter/adapter_model.safetensors", "models/adapter/adapter_config.json",
           "models/adapter/README.md", "reports/training.json")  # fmt: skip


class CrashError(Exception):
    pass


def hashes() -> list[str]:
    return [file_md5(path) for path in OUTPUTS]


def at(step: int, act):
    """A log that does something once the loss of a step is known."""
    return lambda metrics, now: act() if now == step and "loss" in metrics else None


def crash() -> None:
    raise CrashError


@pytest.fixture(scope="module")
def uninterrupted(template, tmp_path_factory):
    """Hashes of an uninterrupted run, and its number of steps."""
    folder = project.copy(template, tmp_path_factory.mktemp("uninterrupted") / "workspace")
    before = Path.cwd()
    os.chdir(folder)
    try:
        run_stage(finetune, project.load_config())
        return hashes(), len(read_json("reports/training.json")["steps"])
    finally:
        os.chdir(before)


@pytest.mark.parametrize("minutes", [1e-9, 60.0], ids=["each-step", "each-epoch"])
def test_a_crash_at_every_step(workspace, uninterrupted, minutes):
    """Even if every single step is followed by a crash (with a checkpoint before it)."""
    expected, steps = uninterrupted
    config = project.set_lora({"checkpoint_minutes": minutes})
    crashed = 0
    for step in range(1, steps + 1):
        try:
            run_stage(finetune, config, at(step, crash))
        except CrashError:
            crashed += 1
    run_stage(finetune, config)
    assert crashed == steps
    assert hashes() == expected


def test_kill_9(workspace, uninterrupted):
    """A real SIGKILL in a process of its own, with another hash seed."""
    expected, steps = uninterrupted
    killed = Fork(project.finetune_here, steps // 2 + 1)
    stderr = killed.wait()
    assert killed.returncode == -signal.SIGKILL, stderr[-2000:]
    resumed: list[int] = []
    run_stage(finetune, project.load_config(), lambda metrics, step: resumed.append(step))
    assert min(resumed) > steps // 2
    assert hashes() == expected


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM at step 2; run it again"),
        (signal.SIGINT, 130, "interrupted at step 2; run it again"),
    ],
)
def test_a_signal_saves_and_says_so(workspace, uninterrupted, number, code, message):
    expected, _ = uninterrupted
    config = project.set_lora({"checkpoint_minutes": 60.0})
    before = signal.getsignal(number)
    with pytest.raises(TerminatedError, match=message) as stopped:
        run_stage(finetune, config, at(1, lambda: os.kill(os.getpid(), number)))
    assert stopped.value.exit_code == code
    assert not Path("models/adapter").exists()
    resumed: list[int] = []
    run_stage(finetune, config, lambda metrics, step: resumed.append(step))
    assert min(resumed) == 3
    assert hashes() == expected
    assert signal.getsignal(number) == before


def test_a_signal_after_the_last_step_isnt_lost(workspace, uninterrupted):
    expected, steps = uninterrupted
    config = project.load_config()
    with pytest.raises(TerminatedError, match="interrupted after epoch 2"):
        run_stage(finetune, config, at(steps, lambda: os.kill(os.getpid(), signal.SIGINT)))
    resumed: list[int] = []
    run_stage(finetune, config, lambda metrics, step: resumed.append(step))
    assert resumed == []
    assert hashes() == expected


def test_a_second_ctrl_c_stops_at_once(workspace, capfd):
    config = project.set_lora({"checkpoint_minutes": 60.0})
    with pytest.raises(KeyboardInterrupt):
        run_stage(
            finetune, config, at(1, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in "12"])
        )
    assert CheckpointManager(run.checkpoint_folder(config), 2).files() == []
    assert "a second Ctrl-C stops at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_job_in_the_background_goes_on(workspace, uninterrupted):
    """A shell has it ignore the Ctrl-C that is meant for another command."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_stage(
            finetune, project.load_config(), at(1, lambda: os.kill(os.getpid(), signal.SIGINT))
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert hashes() == uninterrupted[0]


def test_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path, capsys):
    kept = CheckpointManager(tmp_path, keep=2)
    for step in (1, 2, 3):
        kept.save(step, {"step": step})
    assert [file.name for file in kept.files()] == ["step-00000002.pt", "step-00000003.pt"]
    kept.files()[-1].write_bytes(kept.files()[-1].read_bytes()[:-100])
    assert kept.load() == {"step": 2}
    assert "step-00000003.pt can't be read" in capsys.readouterr().err
    # It has another name, for whoever wants to know, and doesn't count any more.
    assert [file.name for file in kept.files()] == ["step-00000002.pt"]
    assert (tmp_path / "step-00000003.pt.unreadable").is_file()


def test_new_states_arent_deleted_for_old_ones_of_later_steps(tmp_path):
    """Training began again: what it writes is what it goes on from."""
    for step in (5000, 5500):
        (tmp_path / f"step-{step:08d}.pt").write_bytes(b"damaged")
    kept = CheckpointManager(tmp_path, keep=2)
    for step in (100, 200, 300):
        kept.save(step, {"step": step})
    assert [file.name for file in kept.files()] == ["step-00000200.pt", "step-00000300.pt"]
    assert CheckpointManager(tmp_path, keep=2).load() == {"step": 300}


def test_memory_that_is_short_doesnt_make_a_state_unreadable(tmp_path, monkeypatch):
    kept = CheckpointManager(tmp_path, keep=2)
    kept.save(1, {"step": 1})

    def short(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="allocate"):
        patched.setattr(torch, "load", short)
        kept.load()
    assert kept.load() == {"step": 1}


def test_a_gpus_state_is_read_without_one(tmp_path):
    """Its tensors say cuda:0 in the file, and come in the machine's memory."""
    kept = CheckpointManager(tmp_path, keep=2)
    with pretend():
        kept.save(7, {"step": 7, "average": torch.arange(3.0).to("cuda:0")})
    (file,) = kept.files()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.load(file, weights_only=True)  # what it is like without a word about the device
    assert torch.equal(kept.load()["average"], torch.arange(3.0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_goes_from_a_gpu_to_the_cpu(workspace, dtype, capsys):
    """With a scaler's state (float16) and without; `compute.device: auto` is the same journal."""
    config = project.set_lora({"checkpoint_minutes": 1e-9, "dropout": 0.0})
    compute = config.compute.model_copy(update={"dtype": dtype})
    config = config.model_copy(update={"compute": compute})
    with pretend(), pytest.raises(CrashError):
        run_stage(finetune, config, at(3, crash))
    resumed: list[int] = []
    run_stage(finetune, config, lambda metrics, step: resumed.append(step))
    assert min(resumed) == 3  # the third step's loss was logged before its state was saved
    assert "can't be read" not in capsys.readouterr().err


def test_training_goes_from_the_cpu_to_a_gpu(workspace, capsys):
    """Where float16 needs a scaler, which a CPU has no state of."""
    config = project.set_lora({"checkpoint_minutes": 1e-9, "dropout": 0.0})
    compute = config.compute.model_copy(update={"dtype": "float16"})
    config = config.model_copy(update={"compute": compute})
    with pytest.raises(CrashError):
        run_stage(finetune, config, at(3, crash))
    resumed: list[int] = []
    with pretend():
        run_stage(finetune, config, lambda metrics, step: resumed.append(step))
    assert min(resumed) == 3
    assert "can't be read" not in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"not a checkpoint"])
def test_damaged_checkpoints_dont_change_the_result(workspace, uninterrupted, content, capsys):
    """The newest is damaged: the one before; all are: from the start. Never a traceback."""
    expected, steps = uninterrupted
    config = project.set_lora({"checkpoint_minutes": 1e-9})
    with pytest.raises(CrashError):
        run_stage(finetune, config, at(steps // 2 + 1, crash))
    files = CheckpointManager(run.checkpoint_folder(config), 2).files()
    files[-1].write_bytes(content)
    run_stage(finetune, config)
    assert "using the previous one" in capsys.readouterr().err
    assert hashes() == expected
    with pytest.raises(CrashError):
        run_stage(finetune, config, at(steps // 2 + 1, crash))
    for file in CheckpointManager(run.checkpoint_folder(config), 2).files():
        file.write_bytes(content)
    run_stage(finetune, config)
    assert "training starts over" in capsys.readouterr().err
    assert hashes() == expected


def test_a_state_of_something_else_isnt_resumed(workspace, uninterrupted, capsys):
    expected, _ = uninterrupted
    config = project.set_lora({"checkpoint_minutes": 1e-9})
    CheckpointManager(run.checkpoint_folder(config), 2).save(3, {"step": 3})
    run_stage(finetune, config)
    assert "training starts over" in capsys.readouterr().err
    assert hashes() == expected


def test_training_is_kept_until_the_stage_has_ended(workspace, uninterrupted):
    """What follows training fails: the next run trains nothing, and ends with the same bytes."""
    expected, _ = uninterrupted
    config = project.set_lora({"checkpoint_minutes": 60.0})
    finetune.run(config)
    for path in OUTPUTS:
        Path(path).unlink()
    resumed: list[int] = []
    run_stage(finetune, config, lambda metrics, step: resumed.append(step))
    assert resumed == []
    assert hashes() == expected
    assert not list(Path(".cache/abo-vqa/finetune").iterdir())


def test_a_full_disk_is_one_message_and_training_goes_on(workspace, uninterrupted):
    """The system refuses a checkpoint (as a full disk does); the last one stays whole."""
    expected, _ = uninterrupted
    config = project.set_lora({"checkpoint_minutes": 1e-9})
    with pytest.raises(CrashError):
        run_stage(finetune, config, at(3, crash))
    folder = run.checkpoint_folder(config)
    whole = [file_md5(file) for file in CheckpointManager(folder, 2).files()]
    stopped = Fork(project.finetune_on_a_full_disk, 20_000)
    stderr = stopped.wait()
    assert stopped.returncode == 74, stderr[-2000:]
    assert "Traceback" not in stderr
    assert "step-00000003.pt: " in stderr or "step-00000004.pt: " in stderr
    assert "it takes " in stderr
    assert "bytes are free" in stderr
    assert [file_md5(file) for file in CheckpointManager(folder, 2).files()] == whole
    resumed: list[int] = []
    run_stage(finetune, config, lambda metrics, step: resumed.append(step))
    assert min(resumed) >= 3
    assert hashes() == expected


def test_two_at_once_take_turns(workspace, uninterrupted):
    """The same training started twice: both end well, with the same bytes."""
    expected, _ = uninterrupted
    project.set_lora({"checkpoint_minutes": 1e-9})
    started = [Fork(project.finetune_here) for _ in range(2)]
    errors = [process.wait() for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    assert sum("is doing the same work" in text for text in errors) <= 1
    assert hashes() == expected


def test_outputs_name_no_time_and_no_place(workspace):
    run_stage(finetune, project.load_config())
    for path in OUTPUTS[1:]:
        text = Path(path).read_text()
        assert str(workspace) not in text
        assert "seconds" not in text
