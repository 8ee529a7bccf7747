"""Tracking that goes wrong: the work goes on, ends well, and its records come later."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from abo_vqa.core.summary import Summary
from abo_vqa.core.tables import write_table
from abo_vqa.core.tracking import outbox
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.runs import track
from tests.support import ROOT
from tests.support.servers.ports import free_port
from tests.support.tracking import stages


def parents():
    client = connect()
    experiment = client.get_experiment_by_name("abo-vqa").experiment_id
    found = client.search_runs([experiment])
    return [run for run in found if "mlflow.parentRunId" not in run.data.tags]


class locked:
    """Another process's hold on the database."""

    def __enter__(self):
        self.database = sqlite3.connect("mlflow.db", isolation_level=None, check_same_thread=False)
        self.database.execute("BEGIN EXCLUSIVE")
        return self

    def release(self):
        self.database.execute("ROLLBACK")
        self.database.close()

    def __exit__(self, *_):
        self.release()


def waiting():
    return list(Path(".cache/abo-vqa/mlflow").glob("*.json"))


def test_a_database_locked_during_the_work_gets_everything_later(checkout, capsys):
    with track("finetune", checkout) as tracker:
        time.sleep(0.5)
        held = locked().__enter__()
        began = time.monotonic()
        for step in range(600):
            tracker.log({"loss": 1.0 / (step + 1)}, step)
        assert time.monotonic() - began < 5  # the lock is there for longer
        tracker.finish(Summary("done", metrics={"best_epoch": 2}))
        threading.Timer(2, held.release).start()
    client, (run,) = stages()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best_epoch"] == 2
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 600
    assert not waiting()
    assert "not recorded" not in capsys.readouterr().err


@pytest.mark.slow  # each attempt waits for the lock for as long as MLflow does
def test_what_a_database_locked_to_the_end_missed_comes_with_the_next_stage(checkout, capsys):
    with track("finetune", checkout) as tracker:
        time.sleep(0.5)
        held = locked().__enter__()
        tracker.log({"loss": 2.0}, 7)
        tracker.finish(Summary("done", metrics={"best_epoch": 2}))
    held.release()
    said = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in said if "not recorded yet" in line]) == 1
    assert "database is locked" in said[-1]
    assert "abo-vqa tracking" in said[-1]
    assert len(waiting()) == 1
    with track("split", checkout) as tracker:
        pass
    assert not waiting()
    assert "recorded pending data of an earlier run" in capsys.readouterr().err
    run = {run.info.run_name: run for run in stages()[1]}["finetune"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best_epoch"] == 2
    assert run.data.metrics["loss"] == 2.0


def test_a_database_locked_at_the_start_gets_the_run_later(checkout, monkeypatch):
    from abo_vqa.core.tracking import store_checks

    monkeypatch.setattr(store_checks, "CONNECT_S", 0.2)
    held = locked().__enter__()
    with track("finetune", checkout) as tracker:
        tracker.log({"loss": 2.0}, 7)
        held.release()
    _, (run,) = stages()
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 2.0)


def test_an_unwritable_artifact_folder_keeps_no_metric_back(checkout, capsys, tmp_path):
    table = write_table(pd.DataFrame({"question": ["q"]}), tmp_path / "table.csv")
    Path("mlartifacts").write_text("not a folder")
    with track("finetune", checkout) as tracker:
        tracker.finish(Summary("done", metrics={"best_epoch": 2}, artifacts=(table,)))
    said = capsys.readouterr().err
    assert "MLflow: not recorded yet: 1 artifacts" in said
    _, (run,) = stages()
    assert (run.info.status, run.data.metrics["best_epoch"]) == ("FINISHED", 2)
    Path("mlartifacts").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "abo_vqa", "tracking"], cwd=ROOT, env=dict(os.environ),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    client = connect()
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["table.csv"]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_by_hand_in_any_encoding(checkout, monkeypatch, encoding):
    """Its line names the database, whose folder may have any letters."""
    folder = Path("模型 →").absolute()
    folder.mkdir()
    shutil.copy("mlflow.db", folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    done = subprocess.run(
        [sys.executable, "-m", "abo_vqa", "tracking"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONIOENCODING": encoding}, encoding="latin-1", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert r"\u6a21\u578b \u2192/mlflow.db" in done.stdout


def test_an_artifact_that_changed_meanwhile_isnt_taken_for_the_old_one(checkout, capsys, tmp_path):
    table = write_table(pd.DataFrame({"question": ["q"]}), tmp_path / "table.csv")
    Path("mlartifacts").write_text("not a folder")
    with track("finetune", checkout) as tracker:
        tracker.finish(Summary("done", artifacts=(table,)))
    Path("mlartifacts").unlink()
    table.write_text("something else")
    assert outbox.deliver_pending()
    assert "table.csv has changed since" in capsys.readouterr().err
    assert not waiting()


def test_a_model_that_another_version_left_is_refused_with_what_to_do(checkout, capsys, tmp_path):
    """0.2.0's record has no code: it can't be registered, and isn't said to be."""
    table = write_table(pd.DataFrame({"question": ["q"]}), tmp_path / "table.csv")
    Path("mlartifacts").write_text("not a folder")
    with track("finetune", checkout) as tracker:
        tracker.finish(Summary("done", artifacts=(table,)))
    Path("mlartifacts").unlink()
    (file,) = waiting()
    content = json.loads(file.read_text())
    artifact = content["records"][0]
    about = {"name": "abo-vqa-blip-lora", "profile": "sample", "description": "", "settings": {}}
    about |= {"validation": 0.5, "held_out": "", "tags": {}}
    model = {**{key: artifact[key] for key in ("run", "path", "digest")}, "record": "Model"}
    content["records"].append({**model, "about": about})
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert outbox.deliver_pending()
    said = capsys.readouterr().err
    assert "not recorded: the registered model: another version of abo-vqa left it" in said
    recorded = said.partition("recorded pending data of an earlier run: ")[2]
    assert "artifact" in recorded or "file" in recorded
    assert "registered model" not in recorded
    assert not waiting()


def test_whatever_a_library_raises_doesnt_fail_the_stage(checkout, capsys, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr("abo_vqa.core.tracking.dvc.Repo", broken)
    table = Path("gone.csv")
    with track("finetune", checkout) as tracker:
        tracker.log({"a (b) 100%": 1.0, "größe/x": 2.0}, 0)
        tracker.finish(Summary("done", datasets={"training": table}, artifacts=(table,)))
    said = capsys.readouterr().err
    assert "not recorded: the hashes of the stage's files: broken (RuntimeError)" in said
    assert "gone.csv isn't there any more" in said
    _, (run,) = stages()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["a _b_ 100_"] == 1.0


def test_a_run_from_outside_isnt_hijacked(checkout, monkeypatch, capsys):
    with track("evaluate", checkout):
        pass
    _, (old,) = stages()
    monkeypatch.setenv("MLFLOW_RUN_ID", old.info.run_id)
    with track("split", checkout) as tracker:
        tracker.finish(Summary("", metrics={"rows": 3}))
    client, found = stages()
    assert len(found) == 2
    again = client.get_run(old.info.run_id)
    assert again.info.run_name == "evaluate"
    assert "rows" not in again.data.metrics
    assert "MLFLOW_RUN_ID is set and ignored" in capsys.readouterr().err


def test_killed_runs_are_closed_and_the_next_one_says_what_it_goes_on_with(checkout):
    code = (
        "import os, signal\n"
        "from abo_vqa.core.tracking.runs import track\n"
        "from abo_vqa.core.config import load_config\n"
        "with track('finetune', load_config()) as tracker:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = dict(os.environ)
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False)
    assert done.returncode == -9
    here = Path.cwd()
    os.chdir(ROOT)  # the same commit
    try:
        with track("finetune", checkout):
            pass
    finally:
        os.chdir(here)
    _, (second, first) = stages()
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert second.data.tags["abo_vqa.continues"] == first.info.run_id
    assert {run.info.status for run in parents()} == {"FINISHED"}


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED")]
)
def test_stopped_isnt_failed(checkout, error, status):
    with pytest.raises(error), track("split", checkout):
        raise error
    assert stages()[1][0].info.status == status
    assert parents()[0].info.status == status


@pytest.mark.slow
def test_a_server_that_goes_away_neither_delays_nor_fails_the_work(checkout, monkeypatch, capsys):
    """A real `mlflow server`, killed in the middle; what it missed arrives when it's back."""
    from urllib.request import urlopen

    port = free_port()

    def serve():
        words = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
        words += ["--backend-store-uri", f"sqlite:///{Path.cwd() / 'mlflow.db'}"]
        words += ["--artifacts-destination", str(Path.cwd() / "served")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        server = subprocess.Popen(words, env=environment, start_new_session=True)
        for _ in range(240):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        return server

    def end(server):
        os.killpg(server.pid, 9)
        server.wait()

    server = serve()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    table = write_table(pd.DataFrame({"question": ["q"]}), Path("table.csv"))
    with track("finetune", checkout) as tracker:
        tracker.log({"loss": 2.0}, 0)
        end(server)
        began = time.monotonic()
        for step in range(1, 700):
            tracker.log({"loss": 1.0 / step}, step)
        assert time.monotonic() - began < 5
        tracker.finish(Summary("done", metrics={"best_epoch": 2}, artifacts=(table,)))
    assert time.monotonic() - began < 60
    assert "not recorded yet" in capsys.readouterr().err
    server = serve()
    try:
        assert outbox.deliver_pending()
        client, (run,) = stages()
        assert (run.info.status, run.data.metrics["best_epoch"]) == ("FINISHED", 2)
        assert len(client.get_metric_history(run.info.run_id, "loss")) == 700
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["table.csv"]
    finally:
        end(server)


def test_a_waiting_file_can_be_read_by_people(checkout):
    Path("mlartifacts").write_text("not a folder")
    with track("finetune", checkout) as tracker:
        tracker.finish(Summary("done", artifacts=(Path("mlflow.db"),)))
    (file,) = waiting()
    content = json.loads(file.read_text())
    assert content["store"] == "mlflow.db"
    assert [record["record"] for record in content["records"]] == ["Artifact"]
