"""The end of a process: what asked to be told about it, the output and the exit code."""

import subprocess
import sys

import pytest

from tests.support import ROOT

PROGRAM = """
import atexit, sys, threading, time
from abo_vqa.core.entry import run_process

class Loud:
    def __del__(self):
        print("taken apart")

loud = Loud()
loud.itself = loud

def finish_later():
    time.sleep(0.3)
    print("thread done")

def main():
    atexit.register(print, "told about the end")
    threading.Thread(target=finish_later).start()
    sys.stdout.write("no newline: ")
    sys.stderr.write("warning")
    {last}

run_process(main)
"""


def run_program(last: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(last=last)]
    environment = {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("code", [0, 3])
def test_everything_is_finished_and_nothing_taken_apart(code):
    done = run_program(f"return {code}")
    assert done.returncode == code
    assert done.stdout == "no newline: thread done\ntold about the end\n"
    assert done.stderr == "warning"


def test_an_error_ends_as_python_ends_it():
    done = run_program("raise ValueError('a fault of ours')")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: a fault of ours\n")
    assert "told about the end" in done.stdout


def test_an_exit_code_raised_in_between_stays():
    assert run_program("sys.exit(2)").returncode == 2
