"""A real `mlflow server` on a real PostgreSQL, as docker-compose.yml starts it, and its faults."""

import os
import resource
import time
from pathlib import Path
from urllib.parse import quote

import mlflow
import pandas as pd
import psycopg2
import pytest

from abo_vqa.cli import main
from abo_vqa.commands.doctor.findings import Checkout, examine
from abo_vqa.commands.doctor.stores import tracking
from abo_vqa.core.errors import UserError
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking import outbox
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.runs import track
from tests.support import training as project
from tests.support.servers.flaky_proxy import FlakyProxy
from tests.support.servers.postgres import PASSWORD, Postgres
from tests.support.servers.tracking import TrackingServer, compose_environment
from tests.support.tracking import stages

LOGIN = "jane:not-to-be-seen"
SIMILAR = (401, 403, 404, 500, 502, "page")  # to those that the default tests have


@pytest.fixture(scope="module")
def database():
    with Postgres() as running:
        yield running


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    address = database.uri().partition("://")[2]
    environment = compose_environment(PASSWORD, address)
    with TrackingServer(tmp_path_factory.mktemp("server"), environment) as running:
        yield running


@pytest.fixture
def proxy(server, monkeypatch, checkout):
    """A proxy before the server, as MLFLOW_TRACKING_URI with a login in it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("DVC_EXP_NAME", f"exp-{time.time_ns()}")
    with FlakyProxy(server.port) as running:
        address = running.url.replace("://", f"://{LOGIN}@")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield running


@pytest.fixture
def by_proxy(proxy, checkout):
    return checkout


def waiting():
    return list(Path(".cache/abo-vqa/mlflow").glob("*.json"))


def newest(name="finetune"):
    client, found = stages()
    return client, next(run for run in found if run.info.run_name == name)


def test_a_stage_with_its_model_is_recorded_and_the_model_loads(server, tmp_path, monkeypatch):
    root = project.make(tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    project.set_lora({"epochs": 1, "dropout": 0.0})
    assert main(["finetune"]) == 0
    client, run = newest()
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert not (root / "mlartifacts").exists()
    assert not (root / "mlflow.db").exists()
    (version,) = client.search_model_versions(f"run_id = '{run.info.run_id}'")
    assert version.status == "READY"
    assert list(server.artifacts.rglob("adapter_model.safetensors"))
    model = mlflow.pyfunc.load_model("models:/abo-vqa-blip-lora@latest-sample")
    question = pd.DataFrame({"image": [b"not an image"], "question": ["what color is it?"]})
    assert "image" in model.predict(question)["error"][0]  # it was loaded, and answers
    assert mlflow.get_tracking_uri() == server.url


@pytest.mark.parametrize(
    "mode", [503, "hang", *(pytest.param(m, marks=pytest.mark.slow) for m in SIMILAR)]
)
def test_a_fault_in_the_middle_delays_little_and_loses_nothing(proxy, by_proxy, mode, capfd):
    table = Path("table.csv")
    table.write_text("question\nq\n")
    with track("finetune", by_proxy) as tracker:
        tracker.log({"loss": 2.0}, 0)
        tracker.flush()
        time.sleep(0.5)
        proxy.fail(mode)
        began = time.monotonic()
        for step in range(1, 700):
            tracker.log({"loss": 1.0 / step}, step)
        assert time.monotonic() - began < 2  # the work doesn't wait
        tracker.finish(Summary("done", metrics={"best_epoch": 2}, artifacts=(table,)))
    assert time.monotonic() - began < 30
    printed = capfd.readouterr()
    assert "MLflow: not recorded yet" in printed.err
    assert "not recorded:" not in printed.err  # nothing is given up
    (file,) = waiting()
    assert "not-to-be-seen" not in printed.err + printed.out + file.read_text()
    proxy.fail("")
    assert outbox.deliver_pending()
    assert not waiting()
    client, run = newest()
    assert (run.info.status, run.data.metrics["best_epoch"]) == ("FINISHED", 2)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 700
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["table.csv"]


@pytest.mark.parametrize("mode", [401, 502, "hang"])
def test_a_server_that_is_unusable_at_the_start_stops_before_any_work(proxy, by_proxy, mode):
    proxy.fail(mode)
    began = time.monotonic()
    refused = pytest.raises(UserError, match=r"can't use MLflow at http://\*\*\*@")
    with refused as raised, track("finetune", by_proxy):
        raise AssertionError("the work has begun")
    assert time.monotonic() - began < 12
    assert "not-to-be-seen" not in str(raised.value)
    remedy = "MLFLOW_TRACKING_USERNAME" if mode in (401, 403) else "Start the server"
    assert remedy in str(raised.value)


def test_a_pipeline_under_way_goes_on_without_the_server(proxy, by_proxy, capfd):
    with track("split", by_proxy):
        pass
    proxy.fail(503)
    with track("embed", by_proxy) as tracker:
        tracker.metrics({"rows": 3})
    printed = capfd.readouterr().err
    assert "this run will be recorded once the store can be used" in printed
    assert "not recorded yet: the run itself" in printed
    proxy.fail("")
    with track("predict", by_proxy):
        pass
    assert not waiting()
    _, run = newest("embed")
    assert (run.info.status, run.data.metrics["rows"]) == ("FINISHED", 3)
    parents = {r.data.tags["mlflow.parentRunId"] for r in stages()[1][:3]}
    assert len(parents) == 1


def test_a_database_that_goes_away_behind_the_server(proxy, by_proxy, database, capfd):
    with track("finetune", by_proxy) as tracker:
        tracker.log({"loss": 2.0}, 0)
        tracker.flush()
        time.sleep(0.5)
        database.stop()
        try:
            tracker.log({"loss": 1.0}, 1)
            tracker.finish(Summary("done", metrics={"best_epoch": 2}))
            began = time.monotonic()
            tracker.outbox.close()
            assert time.monotonic() - began < 60
        finally:
            database.start()
    assert "not recorded yet" in capfd.readouterr().err
    assert outbox.deliver_pending()
    client, run = newest()
    assert run.data.metrics["best_epoch"] == 2
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2


def test_a_full_disk_behind_the_server_keeps_no_metric_back(proxy, by_proxy, server, capfd):
    """The server may write no more than it has: as for a disk, each larger file is an error."""
    import psutil

    big = Path("big.bin")
    big.write_bytes(os.urandom(3_000_000))
    processes = [psutil.Process(server.process.pid)]
    processes += processes[0].children(recursive=True)
    before = [resource.prlimit(p.pid, resource.RLIMIT_FSIZE) for p in processes]
    with track("finetune", by_proxy) as tracker:
        for process, (_, hard) in zip(processes, before, strict=True):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2_000_000, hard))
        tracker.finish(Summary("done", metrics={"best_epoch": 2}, artifacts=(big,)))
    assert "MLflow: not recorded yet: 1 artifacts" in capfd.readouterr().err
    client, run = newest()
    assert (run.info.status, run.data.metrics["best_epoch"]) == ("FINISHED", 2)
    for process, limits in zip(processes, before, strict=True):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    assert outbox.deliver_pending()
    (file,) = client.list_artifacts(run.info.run_id)
    assert (file.path, file.file_size) == ("big.bin", 3_000_000)


def test_a_record_that_the_server_cant_take_holds_up_no_other(proxy, by_proxy, capfd):
    """PostgreSQL has no character 0, which SQLite stores: the server answers with status 500."""
    with track("finetune", by_proxy) as tracker:
        tracker.tag({"bad": "a\0b"})
        tracker.tag({"worse": "\0"})
        tracker.tag({"worst": "\0\0"})
        tracker.metrics({"rows": 3})
    _, run = newest()
    assert (run.info.status, run.data.metrics["rows"]) == ("FINISHED", 3)
    assert "not recorded yet: 3 tags" in capfd.readouterr().err
    for file in waiting():
        file.unlink()


def test_no_password_is_in_the_database(proxy, by_proxy, database):
    with track("finetune", by_proxy) as tracker:
        tracker.finish(Summary("done", metrics={"best_epoch": 2}))
    connection = psycopg2.connect(database.uri(), password=PASSWORD)
    with connection, connection.cursor() as cursor:
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        cursor.execute(tables)
        for (name,) in cursor.fetchall():
            cursor.execute(
                f'SELECT count(*) FROM "{name}" t WHERE t::text LIKE %s', ["%to-be-seen%"]
            )
            assert cursor.fetchone() == (0,), name
    connection.close()


def test_postgresql_without_a_server(database, checkout, monkeypatch, capfd):
    """Its artifacts are in the checkout."""
    address = database.uri().replace("://mlflow@", f"://mlflow:{quote(PASSWORD, safe='')}@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    config = checkout.model_copy(
        update={"tracking": checkout.tracking.model_copy(update={"experiment": "direct"})}
    )
    table = Path("table.csv")
    table.write_text("question\nq\n")
    with track("split", config) as tracker:
        tracker.finish(Summary("done", metrics={"rows": 3}, artifacts=(table,)))
    client = connect()
    number = client.get_experiment_by_name("direct").experiment_id
    run = next(r for r in client.search_runs([number]) if r.info.run_name == "split")
    assert (run.info.status, run.data.metrics["rows"]) == ("FINISHED", 3)
    assert list(Path("mlartifacts").rglob("table.csv"))
    printed = capfd.readouterr()
    assert quote(PASSWORD, safe="") not in printed.out + printed.err
    # Another checkout of another machine: the folder isn't there.
    Path("mlartifacts").rename("elsewhere")
    moved = "file:///nowhere/at/all/mlartifacts"
    connection = psycopg2.connect(database.uri(), password=PASSWORD)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE experiments SET artifact_location = %s WHERE name = 'direct'", [moved]
        )
    connection.close()
    with (
        pytest.raises(UserError, match="a folder that this machine hasn't"),
        track("split", config),
    ):
        pass


def examined(config):
    return {f.name: f for f in examine("check", tracking, Checkout(Path.cwd(), config))}


def test_doctor_looks_at_the_server_and_writes_through_it(proxy, by_proxy, server):
    before = set(server.artifacts.rglob("*"))
    found = examined(by_proxy)
    states = {name: f.state for name, f in found.items()}
    assert states == dict.fromkeys(("tracking", "server", "experiment", "artifacts"), "ok"), found
    assert {path for path in server.artifacts.rglob("*") if path.is_file()} <= before
    assert "not-to-be-seen" not in str(found)
    proxy.fail(500, only="/mlflow-artifacts/")
    found = examined(by_proxy)
    assert (found["artifacts"].state, found["experiment"].state) == ("problem", "ok")
    assert "--artifacts-destination" in found["artifacts"].advice
    proxy.fail(401)
    assert "MLFLOW_TRACKING_USERNAME" in examined(by_proxy)["check"].found


def test_doctor_sees_a_deleted_experiment(proxy, by_proxy, monkeypatch):
    client = connect()
    number = client.get_experiment_by_name("abo-vqa").experiment_id
    client.delete_experiment(number)
    try:
        found = examined(by_proxy)["experiment"]
    finally:
        client.restore_experiment(number)
    assert (found.state, found.found) == ("problem", "abo-vqa is deleted")
    assert f"mlflow experiments restore -x {number}" in found.advice
