"""Keys, remotes and stores: said, never shown, never waited for, never changed."""

import json
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from abo_vqa.commands.doctor import services
from abo_vqa.core.errors import UserError
from abo_vqa.remote.keys import NO_KEY
from tests.support.servers.openai_chat import OpenAIServer


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in (
        "GEMINI_API_KEY",
        "GEMINI_API_KEYS",
        "OPENAI_API_KEY",
        "OPENAI_API_KEYS",
        *services.OPTIONAL,
    ):
        monkeypatch.delenv(name, raising=False)


# ---- keys


def test_the_sample_needs_no_key(look):
    found = look(services.keys)
    assert found["api key"].state == "ok"
    assert "needs none" in found["api key"].found


def test_an_annotator_that_needs_a_key_lacks_it(look):
    found = look(services.keys, generate={"annotator": "gemini"})["api key"]
    assert found.state == "problem"
    assert "GEMINI_API_KEY" in found.advice


def test_keys_are_counted_and_not_shown(look, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEYS", "first-key, second-key")
    monkeypatch.setenv("HF_TOKEN", "hub-token")
    found = look(services.keys, generate={"annotator": "gemini"})
    assert found["api key"].state == "ok"
    assert found["api key"].found == "2 in GEMINI_API_KEYS"
    assert found["environment"].found.startswith("set: HF_TOKEN (of")
    assert "first-key" not in str(found)
    assert "hub-token" not in str(found)


def test_a_server_of_ones_own_is_asked(look, monkeypatch):
    def ask(url, **settings):
        base = {"annotator": "openai", "model": "m", "base_url": url, "key_variable": None}
        return look(services.keys, generate=base | settings)

    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-alone-0000")
    with OpenAIServer() as server:
        found = ask(server.url)
        assert "none is sent" in found["api key"].found
        assert found["endpoint"].state == "ok"
        assert [call.key for call in server.calls] == [NO_KEY]
        found = ask(server.url, key_variable="MY_SERVER")
        assert found["api key"].state == "problem"
        assert "MY_SERVER isn't set" in found["api key"].found
        monkeypatch.setenv("MY_SERVER", "sk-my-own-key-000000")
        found = ask(server.url, key_variable="MY_SERVER")
        assert found["api key"].found == "1 in MY_SERVER"
        assert found["endpoint"].state == "ok"
        assert server.calls[-1].key == "sk-my-own-key-000000"
        server.keys = {"another"}
        assert "generate.key_variable" in ask(server.url)["endpoint"].advice
        found = ask(server.url, key_variable="MY_SERVER")
        assert found["endpoint"].state == "problem"
        assert "Check MY_SERVER" in found["endpoint"].advice
        assert "my-own-key" not in str(found)
    found = ask(server.url)["endpoint"]
    assert found.state == "problem"
    assert "generate.base_url" in found.advice


# ---- DVC's remotes

CONFIG = """
[core]
    remote = {default}
['remote "store"']
    url = s3://bucket/abo
    secret_access_key = not-to-be-seen
['remote "gone"']
    url = {gone}
['remote "web"']
    url = https://jane:not-to-be-seen@host/abo
"""


def test_remotes_without_secrets_and_without_contact(look, checkout):
    gone = checkout.parent / "gone"
    (checkout / ".dvc/config").write_text(CONFIG.format(default="store", gone=gone))
    found = look(services.remotes)
    assert "(the default)" in found["remote store"].found
    assert found["remote gone"].state == "warning"
    assert str(gone) in found["remote gone"].found
    assert "https://***@host/abo" in found["remote web"].found
    assert "not-to-be-seen" not in str(found)
    gone.mkdir()
    assert look(services.remotes)["remote gone"].state == "ok"


def test_a_default_that_isnt_configured(look, checkout):
    (checkout / ".dvc/config").write_text("[core]\n    remote = nowhere\n")
    found = look(services.remotes)["remote"]
    assert found.state == "problem"
    assert "nowhere" in found.found


def test_no_remote_is_no_problem(look):
    assert [f.state for f in look(services.remotes).values()] == ["ok"]


# ---- MLflow's store


def test_a_database_that_isnt_there_is_not_made(look, checkout):
    found = look(services.tracking)["tracking"]
    assert found.state == "warning"
    assert not (checkout / "mlflow.db").exists()
    assert not (checkout / "mlartifacts").exists()


def test_a_database_is_only_read(look, checkout, tables):
    shutil.copy(tables, checkout / "mlflow.db")
    before = (checkout / "mlflow.db").read_bytes()
    found = look(services.tracking)["tracking"]
    assert found.state == "ok"
    assert "0 runs" in found.found
    assert (checkout / "mlflow.db").read_bytes() == before


def test_a_broken_database(look, checkout):
    (checkout / "mlflow.db").write_text("not a database, but long enough to be looked at" * 50)
    found = look(services.tracking)["tracking"]
    assert found.state == "problem"
    assert "not a database" in found.found


def test_a_folder_of_files_is_refused_with_the_way_out(look, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    found = look(services.tracking)["check"]
    assert found.state == "problem"
    assert "migrate-filestore" in found.found


def test_another_database_isnt_contacted(look, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://jane:not-to-be-seen@db/mlflow")
    found = look(services.tracking)["tracking"]
    assert found.state == "ok"
    assert found.found == "postgresql://***@db/mlflow, not contacted"


@pytest.fixture
def answering(monkeypatch):
    """answering(status): a tracking server at MLFLOW_TRACKING_URI that says this to everything."""
    servers = []

    def start(status):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.dumps({"experiments": [], "message": "token not-to-be-seen?"}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *args):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "not-to-be-seen")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_that_answers(look, answering):
    answering(200)
    found = look(services.tracking)["tracking"]
    assert found.state == "ok", found
    assert found.found.endswith("answers")


def test_a_server_that_refuses(look, answering):
    answering(401)
    found = look(services.tracking)["tracking"]
    assert found.state == "problem"
    assert "can't be used" in found.found
    assert "not-to-be-seen" not in str(found)


def test_a_server_that_is_down(look, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://jane:not-to-be-seen@127.0.0.1:{port}")
    found = look(services.tracking)["tracking"]
    assert found.state == "problem"
    assert f"http://***@127.0.0.1:{port}" in found.found
    assert "MLFLOW_TRACKING_URI" in found.advice


def test_a_server_that_accepts_and_says_nothing_is_left(look, monkeypatch):
    monkeypatch.setattr(services, "TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        found = look(services.tracking)["tracking"]
    assert found.state == "problem"


def test_what_ignores_its_own_limit_is_left_all_the_same():
    never = threading.Event()
    began = time.monotonic()
    with pytest.raises(UserError, match="no answer"):
        services.call_with_timeout(0.2, never.wait)
    never.set()
    assert time.monotonic() - began < 30
