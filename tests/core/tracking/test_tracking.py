"""MLflow: one database, a parent per invocation, a child per stage, real hashes."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from abo_vqa.core import tables
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.summary import Summary
from abo_vqa.core.tables import write_table
from abo_vqa.core.tracking.addresses import store
from abo_vqa.core.tracking.runs import track, track_trial
from tests.support import ROOT


@pytest.fixture
def checkout(tmp_path, monkeypatch, tables):
    """An empty main checkout, and the repository's configuration."""
    shutil.copy(tables, tmp_path)
    monkeypatch.chdir(ROOT)
    config = load_config()
    # MLflow's set_tracking_uri writes the environment: each test starts without.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", "shiny-otter")
    monkeypatch.chdir(tmp_path)
    yield config
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def runs():
    import mlflow

    client = mlflow.MlflowClient(store()[0])
    experiment = client.get_experiment_by_name("abo-vqa")
    found = client.search_runs([experiment.experiment_id])
    return client, {run.data.tags["mlflow.runName"]: run for run in found}


def test_stages_of_one_invocation_are_children_of_one_parent(checkout, tmp_path):
    table = write_table(pd.DataFrame({"question": ["q"], "answer": ["None"]}), tmp_path / "t.csv")
    with track("split", checkout) as tracker:
        tracker.finish(Summary("", metrics={"rows": 3}, datasets={"testing": table}))
    with track("finetune", checkout) as tracker:
        for step in range(1200):
            tracker.log({"loss": 1 / (step + 1)}, step)
        tracker.finish(Summary("", metrics={"best_epoch": 2}, artifacts=(table,)))
    client, found = runs()
    parent = found["shiny-otter"]
    assert set(found) == {"shiny-otter", "split", "finetune"}
    assert parent.info.status == "FINISHED"
    for child in (found["split"], found["finetune"]):
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == "FINISHED"
    assert found["split"].data.metrics["rows"] == 3
    assert found["split"].data.params["split.test_size"] == "0.2"
    assert found["split"].inputs.dataset_inputs[0].dataset.digest == file_md5(table)
    assert found["finetune"].data.params["lora.r"] == "16"
    history = client.get_metric_history(found["finetune"].info.run_id, "loss")
    assert [(point.step, point.value) for point in sorted(history, key=lambda p: p.step)] == [
        (step, 1 / (step + 1)) for step in range(1200)
    ]
    assert [f.path for f in client.list_artifacts(found["finetune"].info.run_id)] == ["t.csv"]


def test_a_table_in_parts_has_dvcs_hash_of_its_folder(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PARTITION_ROWS", 2)
    table = write_table(pd.DataFrame({"question": ["q"] * 3, "answer": "None"}), tmp_path / "t.csv")
    with track("split", checkout) as tracker:
        tracker.finish(Summary("", datasets={"testing": table}, artifacts=(table,)))
    client, found = runs()
    recorded = found["split"].inputs.dataset_inputs[0].dataset
    assert recorded.digest == file_md5(table)
    assert recorded.digest.endswith(".dir")
    assert json.loads(recorded.profile) == {"num_rows": 3, "num_elements": 6}
    parts = client.list_artifacts(found["split"].info.run_id, "t.csv")
    assert [part.path for part in parts] == ["t.csv/part-00000.parquet"]


def test_a_crash_marks_the_runs_failed_and_keeps_what_was_seen(checkout):
    with pytest.raises(RuntimeError), track("finetune", checkout) as tracker:
        tracker.log({"loss": 2.0}, 7)
        raise RuntimeError
    _, found = runs()
    assert {name: run.info.status for name, run in found.items()} == {
        "shiny-otter": "FAILED",
        "finetune": "FAILED",
    }
    assert found["finetune"].data.metrics["loss"] == 2.0


def test_trials_share_a_parent(checkout):
    for rank in (4, 8):
        with track_trial("search", {"lora.r": rank}, checkout) as tracker:
            tracker.finish(Summary("", metrics={"validation_accuracy": 0.5}))
    _, found = runs()
    assert set(found) == {"tune search", "trial"}


def test_first_creation_side_by_side(tmp_path):
    code = "from abo_vqa.core.tracking.experiment import prepare; print('ID', prepare('abo-vqa'))"
    environment = {"DVC_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin"}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate()[0].decode().split() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert len({words[-1] for words in said}) == 1


def test_unreachable_server_is_one_message(checkout, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(UserError, match=r"can't use MLflow at http://127\.0\.0\.1:9"),
        track("split", checkout),
    ):
        pass
