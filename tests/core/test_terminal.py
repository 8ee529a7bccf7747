"""Nothing that is printed breaks a command: other encodings, a reader that leaves, a full disk."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support import ROOT

NARROW = ({"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"},
          {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})  # fmt: skip
# A command that prints its arguments, as `abo-vqa ask` does an answer.
SPEAK = (
    "import sys, types; from abo_vqa import cli;"
    "said = types.ModuleType('said'); said.arguments = lambda parser: None;"
    "said.command = lambda args: ["
    "print('\\u2192 \\u767d\\u3044\\u6905\\u5b50', i) for i in range({lines})] and 0;"
    "sys.modules['said'] = said; cli.COMMANDS['score'] = ('said', '');"
    "code = cli.main(['score']); print('ended', code, file=sys.stderr); sys.exit(code)"
)


LEFT_OUT = ("PYTHONIO", "PYTHONUNBUFFERED", "LC_", "LANG")


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(LEFT_OUT)}
    return kept | more


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], check=False, stderr=subprocess.PIPE, text=True,
        encoding="latin-1", cwd=ROOT, **options,
    )  # fmt: skip


@pytest.mark.parametrize("narrow", NARROW, ids=str)
def test_help_in_any_encoding(narrow):
    done = python("src/abo_vqa", "--help", stdout=subprocess.PIPE, env=environment(**narrow))
    assert done.returncode == 0, done.stderr
    assert r"raw archives \u2192 data/balanced.csv" in done.stdout


@pytest.mark.parametrize("narrow", NARROW, ids=str)
def test_last_line_in_any_encoding(narrow):
    code = SPEAK.format(lines=1)
    done = python("-c", code, stdout=subprocess.PIPE, env=environment(**narrow))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\\u2192 \\u767d\\u3044\\u6905\\u5b50 0\n"


def test_utf8_stays_utf8():
    done = python("-c", SPEAK.format(lines=1), stdout=subprocess.PIPE, env=environment())
    assert done.stdout.encode("latin-1").decode() == "→ 白い椅子 0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", SPEAK.format(lines=9999)),
        ("-u", "-c", SPEAK.format(lines=9999)),
        ("src/abo_vqa", "--help"),
        ("src/abo_vqa", "score", "--help"),
    ],
)
def test_a_reader_that_leaves_is_no_failure(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = python(*arguments, stdout=writing, env=environment())
    finally:
        os.close(writing)
    assert done.returncode == 0
    assert "BrokenPipe" not in done.stderr
    if arguments[0] != "src/abo_vqa":
        assert "ended 0" in done.stderr  # the work isn't given up half-way


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_the_disk_refuses_is_said():
    with Path("/dev/full").open("w") as full:
        done = python("-c", SPEAK.format(lines=9999), stdout=full, env=environment())
    assert done.returncode == 74
    assert "output is incomplete: no space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_streams_are_given_back(capfd):
    from abo_vqa.cli import main

    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit):
        main(["--help"])
    assert (sys.stdout, sys.stderr) == before
    assert "curate" in capfd.readouterr().out


WAITING = (
    "import sys, time; from abo_vqa.core.terminal import non_raising_streams\n"
    "with non_raising_streams():\n"
    " print('asked for', file=sys.stdout); print('fetching', file=sys.stderr); time.sleep(60)"
)


@pytest.mark.parametrize("more", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_line_is_out_at_once_and_no_signal_loses_it(more, stream, tmp_path):
    said = {"stdout": b"asked for\n", "stderr": b"fetching\n"}
    with (tmp_path / "other").open("wb") as other:
        streams = {"stdout": other, "stderr": other, stream: subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING], env=environment(**more), **streams
        )
        timer = threading.Timer(20, process.kill)  # ends a read in vain
        timer.start()
        seen = getattr(process, stream).readline()
        process.send_signal(signal.SIGTERM)
        process.communicate()
        timer.cancel()
    assert seen == said[stream]
    assert process.returncode == -signal.SIGTERM


BAR = (
    "import os; from abo_vqa.core.progress import progress_bar\n"
    "from abo_vqa.core.terminal import non_raising_streams\n"
    "with non_raising_streams():\n"
    " with progress_bar(9, unit='row') as bar: bar.update(9)\n"
    " os.write(2, b'what another process says')"
)


def test_a_progress_bars_last_line_ends_before_another_process_speaks():
    done = python("-c", BAR, env=environment(PYTHONUNBUFFERED="1"))
    assert done.stderr.splitlines()[-1] == "what another process says"
