"""`abo-vqa ui`: MLflow's browser, or a clear message instead of its traceback."""

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from abo_vqa.cli import main
from tests.support import ROOT


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("uri", ["http://example.org:5000", "https://example.org/mlflow"])
def test_a_server_is_opened_not_started(monkeypatch, capsys, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(["ui"]) == 0
    assert f"open {uri}" in capsys.readouterr().out


def test_a_taken_port_is_one_message(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"can't listen at 127.0.0.1:{port}" in said
    assert f"make ui PORT={port + 1}" in said


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_port_that_isnt_one(capsys, port):
    assert main(["ui", "--port", port]) == 2
    assert "from 1 to 65535" in capsys.readouterr().err


def test_a_folder_of_files(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    assert main(["ui", "--port", str(free_port())]) == 2
    assert "sqlite:///mlflow.db" in capsys.readouterr().err


@pytest.mark.slow
def test_the_browser_answers(tmp_path):
    port = free_port()
    words = [sys.executable, "-m", "abo_vqa", "ui", "--port", str(port)]
    errors = (tmp_path / "errors").open("w+")
    server = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
    )
    try:
        assert server.stdout.readline().startswith(f"open http://127.0.0.1:{port}")
        for _ in range(240):
            try:
                page = urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()
                break
            except OSError:
                time.sleep(0.5)
        assert "MLflow" in page
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
        assert server.wait(timeout=60) == 0
        errors.seek(0)
        assert "Traceback" not in errors.read()
        with pytest.raises(URLError, match="refused"):
            urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    finally:
        server.terminate()
        server.wait()
