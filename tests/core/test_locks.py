"""Scratch folders: one process at a time, removed as a whole; orphans stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abo_vqa.core import locks, processes
from abo_vqa.core.locks import discard, locked
from abo_vqa.core.scratch import scratch

HOLDER = """
import sys, time
from abo_vqa.core.scratch import scratch
from abo_vqa.core.locks import locked
with locked(scratch("stage", "key")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return scratch("stage", "key")


@pytest.fixture
def holder(folder):
    """A process that works in the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_process_waits_and_says_for_whom(folder, holder, capsys):
    import threading

    threading.Timer(1.0, holder.stdin.close).start()
    began = time.monotonic()
    with locked(folder):
        assert time.monotonic() - began > 0.5
    assert f"process {holder.pid} is doing the same work" in capsys.readouterr().err


def test_a_killed_process_holds_nothing(folder, holder, capsys):
    holder.kill()
    holder.wait()
    with locked(folder):
        pass
    assert capsys.readouterr().err == ""


def test_what_another_process_works_in_isnt_removed(folder, holder):
    (folder / "file").write_text("x")
    discard(folder)
    assert (folder / "file").exists()
    holder.stdin.close()
    holder.wait()
    discard(folder)
    assert list(folder.parent.iterdir()) == []


def test_what_a_kill_left_of_a_removal_goes_with_the_next(folder, monkeypatch):
    monkeypatch.setattr(locks.shutil, "rmtree", lambda *a, **k: None)
    (folder / "half").write_text("x")
    discard(folder)
    assert not folder.exists()  # nobody takes the half for a journal
    monkeypatch.undo()
    os.environ["DVC_ROOT"] = str(folder.parents[3])
    try:
        discard(scratch("stage", "other"))
    finally:
        del os.environ["DVC_ROOT"]
    assert list(folder.parent.iterdir()) == []


ORPHAN = """
import sys, time
from abo_vqa.core.processes import stop_with_parent
from abo_vqa.core.processes import sigterm_as_exit
with sigterm_as_exit(), stop_with_parent():
    print("working", flush=True)
    time.sleep(120)
"""
# What DVC does: a shell, and the stage in it.
DVC = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_ends_with_the_dvc_that_started_it(tmp_path, number):
    script = tmp_path / "dvc"
    script.write_text(DVC)
    dvc = subprocess.Popen(
        [sys.executable, str(script), ORPHAN],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert dvc.stdout.readline() == "working\n"
    dvc.send_signal(number)
    dvc.wait()
    # The pipe closes when the stage, which inherited it, has ended.
    assert "has ended: stopping too" in dvc.communicate(timeout=30)[1]


def test_a_command_of_a_person_has_no_callers(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(processes, "is_dvc", lambda process: False)
    assert processes._waiting_ancestors() == []
    monkeypatch.setenv("RANK", "1")
    assert [p.pid for p in processes._waiting_ancestors()] == [os.getppid()]
