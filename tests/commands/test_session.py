"""`abo-vqa session` as people run it: processes, signals, a clock."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abo_vqa.cli import main
from abo_vqa.commands.session_runs import run_limited
from abo_vqa.core.errors import RetryLaterError, UserError

# What a stage does: it works, and saves its work when it is told to stop.
WORK = """\
import signal, sys, time
def stop(*_):
    open("work.txt", "a").write("stopped\\n")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
open("work.txt", "a").write("begun\\n")
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    root.mkdir()
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / ".cache/abo-vqa/finetune/key").mkdir(parents=True)
    (root / "work.py").write_text(WORK)
    monkeypatch.chdir(root)
    return root


def number(folder):
    return json.loads((folder / "session.json").read_text())["number"]


def test_the_command_is_run_and_its_work_saved(checkout, tmp_path, capfd):
    code = main(["session", "run", str(tmp_path / "saved"), "--", "sh", "-c", "echo done; exit 7"])
    assert code == 7
    said = capfd.readouterr().out
    assert said.startswith("done\n")
    assert "save 1, 0 files" in said


def test_what_is_typed_wrong(checkout, tmp_path, capsys):
    saved = str(tmp_path / "saved")
    assert main(["session", "run", saved]) == 2
    assert "expected a command behind the folder" in capsys.readouterr().err
    assert main(["session", "run", saved, "--hours", "8", "--", "true"]) == 2
    assert "Options come first" in capsys.readouterr().err
    assert main(["session", "run", saved, "no-such-command"]) == 2
    assert "no command 'no-such-command'" in capsys.readouterr().err
    for hours in ("0", "-1", "nan", "soon"):
        with pytest.raises(SystemExit):
            main(["session", "run", f"--hours={hours}", saved, "true"])
        assert "a number above 0" in capsys.readouterr().err
    assert main(["session", "restore", saved]) == 2
    assert "has no saved session" in capsys.readouterr().err


def test_the_time_is_over(checkout):
    saves = []
    began = time.monotonic()
    with pytest.raises(RetryLaterError, match=r"stopped after 0\.0004 hours, and saved"):
        run_limited([sys.executable, "work.py", "60"], lambda: saves.append(1), 0.0004, 60)
    assert time.monotonic() - began < 30
    assert Path("work.txt").read_text().splitlines() == ["begun", "stopped"]
    assert saves == [1]


def test_it_saves_every_few_minutes_and_a_full_disk_ends_nothing(checkout, capsys):
    saves = []

    def save():
        saves.append(1)
        if len(saves) < 3:
            raise OSError(28, "No space left on device")

    words = [sys.executable, "-c", "import time; time.sleep(1)"]
    assert run_limited(words, save, None, 0.2 / 60) == 0
    assert len(saves) > 3
    assert "not saved: [Errno 28] No space left on device. The next save" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space"):  # but the last save must be there

        def full():
            raise OSError(28, "No space left on device")

        run_limited(["true"], full, None, 1)


def test_the_last_save_that_is_refused_is_an_error(checkout):
    def refuse():
        raise UserError("another checkout")

    with pytest.raises(UserError):
        run_limited(["true"], refuse, None, 1)


@pytest.mark.parametrize(
    ("number_of_signal", "shell"),
    [(signal.SIGTERM, ["sh", "-c"]), (signal.SIGINT, [])],  # DVC starts its stages by a shell
)
def test_a_signal_stops_all_of_it_and_saves(checkout, tmp_path, number_of_signal, shell):
    saved = tmp_path / "saved"
    words = [sys.executable, "work.py", "60"]
    command = [*shell, f"{shlex.join(words)}; echo"] if shell else words
    with subprocess.Popen(
        [sys.executable, "-m", "abo_vqa.cli", "session", "run", str(saved), *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while not Path("work.txt").is_file():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(number_of_signal)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number_of_signal, error
    assert number(saved) == 1
    left = subprocess.run(["pgrep", "-f", f"{checkout}/work.py"], capture_output=True, check=False)
    assert left.stdout == b""
