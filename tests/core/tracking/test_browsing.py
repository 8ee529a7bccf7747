"""Links into MLflow's browser: an experiment's runs, with its saved view, and a run."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from abo_vqa.core.tracking import browsing
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.browsing import how_to_browse, local_runs_url, server_runs_url
from abo_vqa.core.tracking.experiment import prepare
from abo_vqa.core.tracking.views import runs_route

RUNS = "#/experiments/7/runs?workflowType=machine_learning"
VIEW = f"{RUNS}&viewStateShareKey=abo-vqa-experiments"
TAGS = [{"key": "mlflow.sharedViewState.abo-vqa-experiments", "value": "{}"}]


@pytest.fixture
def server():
    """A server that knows two experiments, and whose answers may be changed."""
    answers = {"my study": {"experiment_id": "7", "tags": TAGS}, "bare": {"experiment_id": "7"}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = parse_qs(urlsplit(self.path).query)["experiment_name"][0]
            known = answers.get(name)
            body = known if isinstance(known, bytes) else json.dumps({"experiment": known}).encode()
            self.send_response(404 if known is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Keep the output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        http.answers = answers
        yield http
        http.shutdown()


@pytest.mark.parametrize("runs_url", [local_runs_url, server_runs_url])
def test_the_link_leads_to_the_experiments_runs(server, runs_url):
    address = f"http://127.0.0.1:{server.server_port}"
    assert runs_url(address, "my study") == f"{address}/{VIEW}"
    assert runs_url(address, "bare") == f"{address}/{RUNS}"  # somebody deleted the view
    assert runs_url(address, "no such") == address
    for answer in (b"no json", b"[]", b'{"experiment": {}}'):
        server.answers["odd"] = answer
        assert runs_url(address, "odd") == address
    assert runs_url("http://127.0.0.1:9", "my study") == "http://127.0.0.1:9"


def test_a_login_isnt_printed(server):
    host = f"127.0.0.1:{server.server_port}"
    assert server_runs_url(f"http://jane:secret@{host}", "bare") == f"http://***@{host}/{RUNS}"
    assert server_runs_url("databricks://prod", "bare") == "databricks://prod"
    route = "#/experiments/7/runs/abc"
    assert how_to_browse(f"http://jane:secret@{host}/", route) == f"http://***@{host}/{route}"
    assert how_to_browse("databricks", route) == f"{route} at databricks"
    assert how_to_browse("sqlite:///mlflow.db", route) == (
        f"make ui, then http://127.0.0.1:5000/{route}"
    )


def test_the_view_is_the_one_that_is_saved(checkout):
    experiment = prepare("abo-vqa")
    tags = connect().get_experiment(experiment).tags
    assert runs_route(experiment, tags).endswith("&viewStateShareKey=abo-vqa-experiments")
    assert runs_route(experiment, tags) in tags["mlflow.note.content"]


def test_wrong_settings_cost_only_the_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert browsing.experiment_name() == ""
