"""Several processes of one stage: what stops them is said once, and none is left over."""

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from abo_vqa.cli import run_reporting_errors
from abo_vqa.core import processes
from abo_vqa.core.errors import RetryLaterError, UserError


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is one of several that `launch` has started."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv(processes.FAILURE_FILE_ENV, str(tmp_path / "failed"))
    return tmp_path / "failed"


def full_disk() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "answers.jsonl")


def full_memory() -> int:
    raise RuntimeError("CUDA error: out of memory")


def mistake() -> int:
    raise UserError("no such model.")


@pytest.mark.parametrize(
    ("work", "code", "said"),
    [
        (mistake, 2, "no such model."),
        (full_disk, 74, "no space left on device"),
        (full_memory, 74, "out of memory"),
    ],
)
def test_the_first_says_it_and_none_is_started_again(
    marker: Path, work, code, said, capsys
) -> None:
    assert run_reporting_errors("baseline", work) == 0
    assert said in capsys.readouterr().err
    assert marker.read_text() == str(code)
    # another process, which meets something
    assert run_reporting_errors("baseline", full_memory) == 0
    assert run_reporting_errors("baseline", lambda: pytest.fail("started again")) == 0
    assert capsys.readouterr().err == ""


def test_two_that_meet_it_at_the_same_moment(marker: Path, capsys) -> None:
    def beaten() -> int:
        marker.write_text("2")
        raise UserError("no such model.")

    assert run_reporting_errors("baseline", beaten) == 0
    assert capsys.readouterr().err == ""


def test_what_time_solves_is_tried_again(marker: Path) -> None:
    def later() -> int:
        raise RetryLaterError("the quota is spent.")

    assert run_reporting_errors("baseline", later) == 75
    assert not marker.exists()


def test_where_no_word_can_be_left_the_code_says_it(marker: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv(processes.FAILURE_FILE_ENV, str(marker / "gone" / "failed"))
    assert run_reporting_errors("baseline", full_disk) == 74
    assert "no space left" in capsys.readouterr().err


def test_a_process_of_its_own_ends_as_ever(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv(processes.FAILURE_FILE_ENV, str(tmp_path / "failed"))
    assert run_reporting_errors("baseline", mistake) == 2
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize("code", [2, 74])
def test_the_launcher_ends_with_their_code(monkeypatch, code: int) -> None:
    def ended(command, environment) -> int:
        Path(environment[processes.FAILURE_FILE_ENV]).write_text(str(code))
        return 0

    monkeypatch.setattr(processes, "_run_to_end", ended)
    with pytest.raises(UserError, match="for the reason above") as stop:
        processes.launch(2, ["baseline"])
    assert stop.value.exit_code == code
    monkeypatch.setattr(processes, "_run_to_end", lambda *_: 1)
    with pytest.raises(RetryLaterError, match="more than 3 times"):
        processes.launch(2, ["baseline"])


WORKER = """
import os, sys, time
from abo_vqa import cli
from abo_vqa.core import processes
def work():
    with processes.sigterm_as_exit(), processes.stop_with_parent():
        print(os.getpid(), flush=True)
        time.sleep(120)
sys.exit(cli.run_with_safe_output("baseline", work))
"""
LAUNCHER = """
import sys
from abo_vqa import cli
from abo_vqa.core import processes
processes.SCRIPT = sys.argv[1]
sys.exit(cli.run_with_safe_output("baseline", lambda: processes.launch(2, [])))
"""


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A real launcher, in a group of its own as in a terminal, and its workers' numbers."""
    monkeypatch.delenv("RANK", raising=False)
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    workers = [int(process.stdout.readline()) for _ in range(2)]
    yield process, workers
    for number in (process.pid, *workers):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted; run it again to continue"),
        (signal.SIGTERM, 143, "stopped by SIGTERM; run it again to continue."),
    ],
)
def test_an_interruption_is_said_once_and_none_is_left(launched, number, code, said) -> None:
    process, workers = launched
    os.killpg(process.pid, number)  # as a terminal does
    assert process.wait(60) == code
    assert not any(map(psutil.pid_exists, workers))
    assert process.communicate()[1] == f"abo-vqa baseline: {said}\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_workers_dont_outlive_their_launcher(launched, number) -> None:
    process, workers = launched
    process.send_signal(number)
    # The pipes close when all that have inherited them have ended.
    said = process.communicate(timeout=60)[1]
    assert not any(map(psutil.pid_exists, workers))
    assert "has ended: stopping too" in said
    assert "Traceback" not in said
