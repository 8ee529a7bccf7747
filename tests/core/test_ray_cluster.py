"""A cluster that ends, or asks for a token."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from abo_vqa.core.engine.opening import share_token

pytest.importorskip("ray")


@pytest.fixture
def no_token(tmp_path: Path, monkeypatch) -> pytest.MonkeyPatch:
    """Neither a token nor Ray in this process, and an environment that is put back."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # or what the test sets would stay
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    return monkeypatch


STAGE = """
import sys
from abo_vqa import cli
from abo_vqa.core.engine.opening import share_token
share_token()  # before Ray is imported, as `open_engine` does
from abo_vqa.core.engine.on_ray import cluster
from abo_vqa.core.engine.on_ray.engine import RayEngine

cluster._CHECK_S = 0.5

def slow(batches):
    import time
    for batch in batches:
        time.sleep(batch)
        yield batch

def work():
    engine = RayEngine(1, threads=1)
    try:
        for _, batch in engine.run(lambda: slow, [0, float(sys.argv[1])]):
            print("dealt", flush=True)
    finally:
        engine.close()
    return 0

sys.exit(cli.run_with_safe_output("baseline", work))
"""


def start(seconds: float, **variables: str) -> subprocess.Popen:
    """A stage on Ray, with a batch of no and one of some seconds."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, str(seconds)], env=kept | variables,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("part", [pytest.param("gcs_server", marks=pytest.mark.slow), "raylet"])
def test_a_cluster_that_ends_is_told_and_the_command_may_be_run_again(part: str) -> None:
    stage = start(300)
    try:
        assert stage.stdout.readline() == "dealt\n", stage.stderr.read()
        [process] = [
            child for child in psutil.Process(stage.pid).children(recursive=True)
            if child.name() == part
        ]  # fmt: skip
        process.kill()
        _, stderr = stage.communicate(timeout=60)
    finally:
        stage.kill()
    assert stage.returncode == 75, stderr
    assert "has ended, or its part on this machine has" in stderr
    assert "run the same command to continue. Ray's logs are in /tmp/ray" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("address", "token", "mode"),
    [
        ("head:6379", "secret", "token"),
        ("head:6379", "", None),
        ("local", "secret", None),
        (None, "secret", None),
    ],
)
def test_a_token_is_sent_to_a_cluster_that_is_named(address, token, mode, no_token) -> None:
    for name, value in (("RAY_ADDRESS", address), ("RAY_AUTH_TOKEN", token)):
        if value is not None:
            no_token.setenv(name, value)
    share_token()
    assert os.environ.get("RAY_AUTH_MODE") == mode


def test_a_token_that_an_earlier_cluster_left_is_sent(tmp_path: Path, no_token) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("secret")
    no_token.setenv("RAY_ADDRESS", "auto")
    share_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    no_token.setenv("RAY_AUTH_MODE", "disabled")  # it was asked for
    share_token()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_a_token_isnt_sent_by_a_process_that_has_ray_already(no_token) -> None:
    no_token.setenv("RAY_ADDRESS", "auto")
    no_token.setenv("RAY_AUTH_TOKEN", "secret")
    no_token.setitem(sys.modules, "ray", object())
    share_token()
    assert "RAY_AUTH_MODE" not in os.environ


@pytest.mark.slow
def test_a_cluster_of_ray_start_is_joined_with_its_token() -> None:
    folder = tempfile.TemporaryDirectory(dir="/tmp")  # a socket's path has 107 bytes at most
    port, secret = "7461", {"RAY_AUTH_TOKEN": "x" * 40, "RAY_USAGE_STATS_ENABLED": "0"}
    head = subprocess.Popen(
        ["ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=1",
         "--include-dashboard=false", f"--temp-dir={folder.name}"],
        env=os.environ | secret | {"RAY_AUTH_MODE": "token"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while socket.socket().connect_ex(("127.0.0.1", int(port))):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        stage = start(0, RAY_ADDRESS=f"127.0.0.1:{port}", **secret)
        stdout, stderr = stage.communicate(timeout=90)
        assert (stage.returncode, stdout) == (0, "dealt\n" * 2), stderr
    finally:
        head.terminate()
        head.wait(30)
        folder.cleanup()
