"""MLflow's store: a file is only read, a server that is away isn't waited for.

Checks of a real server are in tests/core/tracking/test_tracking_server.py, which starts one.
"""

import shutil
import socket

from abo_vqa.commands.doctor import stores
from abo_vqa.core.tracking import store_checks


def test_a_database_that_isnt_there_is_not_made(look, checkout):
    found = look(stores.tracking)["tracking"]
    assert found.state == "warning"
    assert not (checkout / "mlflow.db").exists()
    assert not (checkout / "mlartifacts").exists()


def test_a_database_is_only_read(look, checkout, tables):
    shutil.copy(tables, checkout / "mlflow.db")
    before = (checkout / "mlflow.db").read_bytes()
    found = look(stores.tracking)["tracking"]
    assert found.state == "ok"
    assert "0 runs" in found.found
    assert (checkout / "mlflow.db").read_bytes() == before


def test_a_broken_database(look, checkout):
    (checkout / "mlflow.db").write_text("not a database, but long enough to be looked at" * 50)
    found = look(stores.tracking)["tracking"]
    assert found.state == "problem"
    assert "not a database" in found.found


def test_a_folder_of_files_is_refused_with_the_way_out(look, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    found = look(stores.tracking)["check"]
    assert found.state == "problem"
    assert "migrate-filestore" in found.found


def test_a_server_that_is_down(look, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://jane:not-to-be-seen@127.0.0.1:{port}")
    found = look(stores.tracking)["check"]
    assert found.state == "problem"
    assert f"http://***@127.0.0.1:{port}" in found.found
    assert "unset MLFLOW_TRACKING_URI" in found.found


def test_a_server_that_accepts_and_says_nothing_is_left(look, monkeypatch):
    monkeypatch.setattr(store_checks, "CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        found = look(stores.tracking)["check"]
    assert found.state == "problem"
    assert "Read timed out" in found.found


def test_a_driver_that_isnt_installed(look, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql+pymysql://jane:not-to-be-seen@db/mlflow")
    found = look(stores.tracking)["check"]
    assert found.state == "problem"
    assert "mysql+pymysql://***@db/mlflow, whose driver isn't installed (pymysql)" in found.found
