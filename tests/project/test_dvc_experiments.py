"""DVC's experiments in a real clone of this project: the stage `curate` runs, in seconds."""

import csv
import io
import json
import re
import time

import boto3
import mlflow
import pandas as pd
import pytest
from helpers.scratch import run
from moto.server import ThreadedMotoServer

from tests.support import dvc_clones

# Queue and workers are processes that a busy machine starts slowly.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """With one finished experiment, `cap-20`; the workspace is as committed."""
    folder = dvc_clones.make(tmp_path_factory.mktemp("experiments") / "abo-vqa")
    run(folder, "abo-vqa", "tracking")
    run(
        folder, "dvc", "exp", "run", "-q", "--temp", "-n", "cap-20", "-S", "curate.cap=20", "curate"
    )
    return folder


def columns(text: str) -> list[str]:
    return next(csv.reader(io.StringIO(text)))


def test_an_experiment_of_one_stage_and_the_table_that_make_shows(clone):
    """What differs fits a screen; all of it is hundreds of columns."""
    everything = run(clone, "dvc", "exp", "show", "--csv")
    assert len(columns(everything)) > 300
    details = re.search(r"(?m)^DETAILS := (.*)$", (clone / "Makefile").read_text()).group(1)
    words = ("dvc", "exp", "show", "--only-changed", "--drop", details.replace("$$", "$"))
    table = run(clone, *words, "--csv")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert {row["Experiment"] for row in rows} == {"", "cap-20"}
    (experiment,) = [row for row in rows if row["Experiment"] == "cap-20"]
    assert experiment["curate.cap"] == "20"
    assert 0 < int(experiment["balanced"]) < dvc_clones.funnel(clone)["balanced"]
    assert max(map(len, run(clone, *words, "--md").splitlines())) <= 200
    difference = run(clone, "dvc", "exp", "diff", "main", "cap-20")
    assert re.search(r"params\.yaml +curate\.cap +- +20", difference)


def test_apply_branch_and_remove(clone):
    run(clone, "dvc", "exp", "apply", "cap-20")
    applied = dvc_clones.funnel(clone)["balanced"]
    assert "curate.cap" in run(clone, "dvc", "params", "diff")
    run(clone, "git", "restore", "params.yaml", "dvc.lock", "data", "reports")
    run(clone, "dvc", "checkout", "-q", "--force")
    assert dvc_clones.funnel(clone)["balanced"] > applied
    run(clone, "dvc", "exp", "branch", "cap-20", "smaller")
    run(clone, "git", "switch", "-q", "smaller")
    run(clone, "dvc", "checkout", "-q")
    assert dvc_clones.funnel(clone)["balanced"] == applied
    assert run(clone, "git", "status", "--porcelain", "params.yaml", "data") == ""
    run(clone, "git", "switch", "-q", "main")
    run(clone, "dvc", "checkout", "-q")
    assert "cap-20" in run(clone, "dvc", "exp", "list")
    run(clone, "dvc", "exp", "remove", "cap-20")
    assert "cap-20" not in run(clone, "dvc", "exp", "list")


def test_restored_settings_bring_the_results_from_the_cache(clone):
    """The way back from `-S` in the quick start, without dvc.lock's hashes of another machine."""
    run(clone, "dvc", "repro", "-q", "curate")
    before = dvc_clones.funnel(clone)
    run(clone, "dvc", "exp", "run", "-q", "-n", "stacked", "-S", "curate.cap=20", "curate")
    assert dvc_clones.funnel(clone) != before
    assert "cap: 20" in (clone / "params.yaml").read_text()
    run(clone, "git", "restore", "params.yaml")
    printed = run(clone, "dvc", "repro", "curate")
    assert "Stage 'curate' is cached" in printed
    assert "Running stage" not in printed
    assert dvc_clones.funnel(clone) == before
    run(clone, "dvc", "exp", "apply", "stacked")
    assert dvc_clones.funnel(clone) != before
    run(clone, "git", "restore", ".")
    run(clone, "dvc", "checkout", "-q", "--force")
    run(clone, "dvc", "exp", "remove", "stacked")


def test_two_workers_share_a_queue(clone):
    """All succeed with the right results, and MLflow has all of them."""
    caps = {f"queued-{cap}": cap for cap in (5, 10, 15)}
    for name, cap in caps.items():
        run(clone, "dvc", "exp", "run", "--queue", "-n", name, "-S", f"curate.cap={cap}", "curate")
    run(clone, "dvc", "exp", "run", "--queue", "-n", "unwanted", "-S", "curate.cap=1", "curate")
    assert run(clone, "dvc", "queue", "status").count("Queued") == 4
    run(clone, "dvc", "queue", "remove", "unwanted")
    run(clone, "dvc", "queue", "start", "-j", "2")
    deadline = time.monotonic() + 1200
    while (status := run(clone, "dvc", "queue", "status")).count("Success") < len(caps):
        assert "Failed" not in status
        assert time.monotonic() < deadline, status
        time.sleep(3)
    assert "balanced" in run(clone, "dvc", "queue", "logs", "queued-5")
    for name, cap in caps.items():
        counts = json.loads(run(clone, "git", "show", f"{revision(clone, name)}:data/funnel.json"))
        run(clone, "dvc", "exp", "apply", name)
        types = pd.read_csv(clone / "data/balanced.csv")["product_type"].value_counts()
        assert types.sum() == counts["balanced"]
        assert types.max() == cap
    client = mlflow.MlflowClient(f"sqlite:///{clone / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("abo-vqa")
    recorded = {
        run_.data.tags["mlflow.runName"]: run_.info.status
        for run_ in client.search_runs([experiment.experiment_id])
    }
    assert {name: recorded.get(name) for name in caps} == dict.fromkeys(caps, "FINISHED")
    run(clone, "dvc", "queue", "remove", "--success")
    assert "No experiment tasks" in run(clone, "dvc", "queue", "status")


def revision(clone, name: str) -> str:
    """The commit of an experiment."""
    refs = run(clone, "git", "for-each-ref", "--format", "%(objectname) %(refname)", "refs/exps")
    return next(line.split()[0] for line in refs.splitlines() if line.endswith(f"/{name}"))


def test_a_bucket_of_an_s3_compatible_server(clone, tmp_path, monkeypatch):
    """Pushed with keys from the environment alone; a second clone pulls and has nothing to do."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-key")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="team")
        run(clone, "git", "restore", ".")
        run(clone, "dvc", "checkout", "-q", "--force")
        run(clone, "dvc", "remote", "add", "--default", "bucket", "s3://team/abo-vqa")
        run(clone, "dvc", "remote", "modify", "bucket", "endpointurl", url)
        run(clone, "git", "commit", "-qam", "remote")
        run(clone, "dvc", "push", "-q")
        assert "a-key" not in (clone / ".dvc/config").read_text()
        folder = dvc_clones.second(clone, tmp_path / "second")
        run(folder, "dvc", "pull", "-q")
        assert "up to date" in run(folder, "dvc", "status")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(RuntimeError, match=r"[Cc]redentials"):
            run(clone, "dvc", "push", "--run-cache")
    finally:
        server.stop()
