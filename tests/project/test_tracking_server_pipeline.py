"""Every way to run stages, recorded by a real `mlflow server` on PostgreSQL; one that is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import mlflow
import pytest
from helpers import scratch

from tests.support.servers.postgres import PASSWORD, Postgres
from tests.support.servers.tracking import TrackingServer, compose_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Postgres() as database:
        environment = compose_environment(PASSWORD, database.uri().partition("://")[2])
        with TrackingServer(tmp_path_factory.mktemp("server"), environment) as running:
            yield running


@pytest.fixture(scope="module")
def clone(tmp_path_factory, server):
    folder = scratch.clone(tmp_path_factory.mktemp("tracked") / "abo-vqa")
    run(
        folder,
        server,
        "dvc",
        "pull",
        "-q",
        "--remote",
        "sample",
        "data/raw/sample",
        "models/sample",
    )
    (folder / "data" / "raw" / "abo").mkdir()
    run(folder, server, "dvc", "commit", "-q", "--force", "data.dvc")
    run(folder, server, "dvc", "repro")
    run(folder, server, "git", "add", "--all")
    run(folder, server, "git", "commit", "--quiet", "--allow-empty", "-m", "results")
    return folder


def run(folder, server, *words):
    done = subprocess.run(
        words, cwd=folder, env=scratch.environment(MLFLOW_TRACKING_URI=server.url),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not recorded" not in done.stdout + done.stderr
    return done.stdout


def recorded(server):
    """Stages' runs by their parent's name."""
    client = mlflow.MlflowClient(server.url)
    number = client.get_experiment_by_name("abo-vqa").experiment_id
    found = client.search_runs([number], max_results=1000)
    names = {r.info.run_id: r.info.run_name for r in found}
    runs = {}
    for one in found:
        if parent := one.data.tags.get("mlflow.parentRunId"):
            assert one.info.artifact_uri.startswith("mlflow-artifacts:/")
            runs.setdefault(names[parent], []).append(one)
    return runs


def test_dvc_repro(clone, server):
    (runs,) = recorded(server).values()
    assert {"curate", "finetune", "evaluate", "report"} <= {r.info.run_name for r in runs}
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert not (clone / "mlflow.db").exists()
    assert not (clone / "mlartifacts").exists()
    model = mlflow.MlflowClient(server.url).get_registered_model("abo-vqa-blip-lora")
    assert set(model.aliases) == {"latest-sample", "champion-sample", "champion"}


def test_experiments_in_the_workspace_in_a_copy_and_in_the_queue(clone, server):
    for number, words in enumerate(
        (["-n", "here"], ["--temp", "-n", "in-temp"], ["--queue", "-n", "in-queue"])
    ):
        settings = ["-S", "lora.epochs=1", "-S", f"lora.r={number + 2}"]
        run(clone, server, "dvc", "exp", "run", *words, *settings)
    run(clone, server, "dvc", "exp", "run", "--run-all")
    runs = recorded(server)
    for number, name in enumerate(("here", "in-temp", "in-queue")):
        (finetune,) = [r for r in runs[name] if r.info.run_name == "finetune"]
        assert finetune.data.params["lora.r"] == str(number + 2)
        assert finetune.info.status == "FINISHED"


def test_by_hand_tune_and_seeds(clone, server):
    run(clone, server, "git", "checkout", "--force", "HEAD")
    run(clone, server, "dvc", "checkout", "--force")
    run(clone, server, "abo-vqa", "split")
    params = clone / "params.yaml"
    text = params.read_text()
    try:
        params.write_text(text.replace("  epochs: ", "  epochs: 1  # "))
        run(clone, server, "abo-vqa", "tune", "--trials", "1")
    finally:
        params.write_text(text)
    run(clone, server, "git", "checkout", "--force", "HEAD")
    run(clone, server, "abo-vqa", "seeds", "--n", "2", "-S", "lora.epochs=1")
    runs = recorded(server)
    assert [r.info.run_name for name in runs for r in runs[name] if name.startswith("tune")] == [
        "trial 0"
    ]
    assert any(name.startswith("by hand") for name in runs)
    assert any(name.startswith("seeds") for name in runs)


def test_a_server_killed_in_training_costs_nothing_but_a_little_time(clone, server):
    """kill -9 of the server during a real fine-tuning, which goes on; and its records, later."""
    run(clone, server, "git", "checkout", "--force", "HEAD")
    words = ["exp", "run", "-n", "killed", "-S", "lora.epochs=4", "-S", "lora.r=5"]
    log = clone.parent / "killed.txt"
    with log.open("w") as out:
        dvc = subprocess.Popen(
            [sys.executable, "-m", "dvc", *words], cwd=clone, stdout=out, stderr=out,
            env=scratch.environment(MLFLOW_TRACKING_URI=server.url), start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 900
            while not re.search(r"fine-tuning: +[1-9]", log.read_text()):
                assert dvc.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            server.kill()
            assert dvc.wait(timeout=1800) == 0, log.read_text()
        finally:
            if dvc.poll() is None:
                os.killpg(dvc.pid, signal.SIGKILL)
    printed = log.read_text()
    assert "MLflow: not recorded yet" in printed
    # The stages after it, which started without the server.
    assert printed.count("this run will be recorded once the store can be used") == 3
    server.start()
    run_after = subprocess.run(
        ["abo-vqa", "tracking"], cwd=clone, capture_output=True, text=True, check=True,
        env=scratch.environment(MLFLOW_TRACKING_URI=server.url),
    )  # fmt: skip
    assert "recorded pending data of an earlier run" in run_after.stderr
    assert not list((clone / ".cache/abo-vqa/mlflow").glob("*.json"))
    runs = {r.info.run_name: r for r in recorded(server)["killed"]}
    assert set(runs) == {"finetune", "predict", "evaluate", "report"}
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    finetune = runs["finetune"]
    client = mlflow.MlflowClient(server.url)
    assert client.search_model_versions(f"run_id = '{finetune.info.run_id}'")
    points = client.get_metric_history(finetune.info.run_id, "loss")
    steps = [point.step for point in points]
    trained = json.loads((clone / "reports" / "training.json").read_text())["steps"]
    assert sorted(steps) == [point["step"] for point in trained]  # each, and once
    assert "accuracy" in finetune.data.metrics  # of evaluate, which ran without the server, too
