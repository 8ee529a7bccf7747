"""MLflow's database: where it is, a checkout that moved, and files that are none."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.core.summary import Summary
from abo_vqa.core.tables import write_table
from abo_vqa.core.tracking.experiment import prepare
from abo_vqa.core.tracking.runs import track
from tests.support.tracking import stages


def test_a_moved_checkout_keeps_its_artifacts(checkout, monkeypatch, capsys, tmp_path):
    table = write_table(pd.DataFrame({"question": ["q"]}), tmp_path / "table.csv")
    with track("split", checkout) as tracker:
        tracker.finish(Summary("", artifacts=(table,)))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    copy = tmp_path / "copy's place"
    shutil.copytree(tmp_path / "checkout", copy)
    shutil.rmtree(tmp_path / "checkout" / "mlartifacts")
    monkeypatch.setenv("DVC_ROOT", str(copy))
    monkeypatch.chdir(copy)
    with track("split", checkout) as tracker:
        tracker.finish(Summary("", artifacts=(table,)))
    assert "this checkout was at" in capsys.readouterr().err
    client, found = stages()
    assert len(found) == 2
    for run in found:
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["table.csv"]
        assert run.info.artifact_uri.startswith(copy.as_uri())
    assert not (tmp_path / "checkout" / "mlartifacts").exists()


@pytest.mark.parametrize("name", ["a%20b", "what?", "a#b", "100%", "é ü 模型", "it's; [x]"])
def test_the_database_is_inside_whatever_the_folder_is_called(
    checkout, tables, name, tmp_path, monkeypatch
):
    folder = tmp_path / "odd" / name
    folder.mkdir(parents=True)
    shutil.copy(tables, folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    with track("split", checkout) as tracker:
        tracker.finish(Summary("", artifacts=(tables,)))
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlartifacts", ".cache"}
    assert [path.name for path in folder.parent.iterdir()] == [name]
    assert len(stages()[1]) == 1


def test_a_relative_database_is_the_main_checkouts(checkout, tables, tmp_path, monkeypatch):
    shutil.copy(tables, tmp_path / "checkout" / "my.db")
    elsewhere = tmp_path / "workspace"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///my.db")
    with track("split", checkout) as tracker:
        tracker.finish(Summary("", artifacts=(tables,)))
    assert not list(elsewhere.iterdir())
    assert list((tmp_path / "checkout" / "mlartifacts").rglob("mlflow.db"))


@pytest.mark.parametrize("uri", ["./mlruns", "mlruns", "file:///tmp/mlruns"])
def test_a_folder_of_files_is_refused_with_a_remedy(checkout, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with (
        pytest.raises(UserError, match=r"no longer accepts.*sqlite:///mlflow\.db.*migrate"),
        track("split", checkout),
    ):
        pass


def test_a_file_that_is_no_database_is_one_message(checkout):
    Path("mlflow.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(UserError, match=r"(?s)can't use MLflow at .*move it away"):
        prepare("abo-vqa")
