"""`abo-vqa ui`: MLflow's browser, or a clear message instead of its traceback."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import psutil
import pytest

from abo_vqa.cli import main
from tests.support import ROOT
from tests.support.servers.flaky_proxy import FlakyProxy
from tests.support.servers.ports import free_port
from tests.support.servers.postgres import PASSWORD, Postgres

EXPERIMENT = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=abo-vqa"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_server_is_opened_not_started(monkeypatch, capsys):
    with FlakyProxy(1) as server:
        server.fail(404)  # a server that keeps its health to itself answers all the same
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url.replace("://", "://jane:secret-word@"))
        assert main(["ui"]) == 0
        assert f"open http://***@127.0.0.1:{server.port}" in capsys.readouterr().out
        server.fail(502)
        assert main(["ui"]) == 2
        printed = capsys.readouterr()
    assert "it answers HTTP 502" in printed.err
    assert "secret-word" not in printed.out + printed.err


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


def started(tmp_path, port):
    words = [sys.executable, "-m", "abo_vqa", "ui", "--port", str(port)]
    errors = (tmp_path / "errors").open("w+")
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
    )


def ready_line(server):
    """Our line, among those of MLflow's own that come before it, as its log of requests."""
    return next((line for line in server.stdout if line.startswith("ready in")), "")


@pytest.mark.slow
@pytest.mark.parametrize("existing", [True, False])
def test_the_browser_answers_when_it_says_so(tmp_path, tables, existing):
    if existing:
        shutil.copy(tables, tmp_path / "mlflow.db")
    port = free_port()
    server = started(tmp_path, port)
    try:
        assert f"starting MLflow at http://127.0.0.1:{port}" in server.stdout.readline()
        ready = ready_line(server)
        # Where the experiment is created beside the server, it may not be there yet.
        link = (
            r"/#/experiments/\d+/runs\?\S+" if not existing else r"(/#/experiments/\d+/runs\?\S+)?"
        )
        address = f"http://127.0.0.1:{port}"
        assert re.fullmatch(rf"ready in [\d.]+ s: open {address}{link} .*\n", ready)
        page = urlopen(f"http://127.0.0.1:{port}/", timeout=20).read().decode()
        assert "MLflow" in page
        found = urlopen(f"http://127.0.0.1:{port}{EXPERIMENT}", timeout=20).read().decode()
        assert "abo-vqa" in found  # also where it was created beside the server
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
        assert server.wait(timeout=60) == 0
        assert "Traceback" not in (tmp_path / "errors").read_text()
        with pytest.raises(URLError, match="refused"):
            urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_the_browser_of_a_postgresql_database(tmp_path, monkeypatch):
    """Its password is on no command line, which everybody on the machine can read."""
    with Postgres() as database:
        secret = quote(PASSWORD, safe="")
        address = database.uri().replace("://mlflow@", f"://mlflow:{secret}@")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        server = started(tmp_path, free_port())
        try:
            lines = [server.stdout.readline(), ready_line(server)]
            assert "postgresql+psycopg2://***@/mlflow" in lines[0]
            assert lines[1].startswith("ready in")
            family = [psutil.Process(server.pid)]
            family += family[0].children(recursive=True)
            assert len(family) > 1
            assert secret not in str([process.cmdline() for process in family])
        finally:
            server.terminate()
            server.wait()
        assert secret not in "".join(lines) + (tmp_path / "errors").read_text()
