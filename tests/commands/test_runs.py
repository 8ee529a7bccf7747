"""`abo-vqa runs`: from a file to its run by content, from a run to its files, and back."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking.runs import track
from tests.support.tracking import OUTPUTS, dvc_commit, git, make_pipeline, stages


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A small pipeline that ran once, with its results committed."""
    folder = make_pipeline(tmp_path_factory.mktemp("runs") / "checkout")
    before, environment = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ |= {"DVC_ROOT": str(folder), "DVC_EXP_NAME": "first"}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        dvc_commit()
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "-m", "first")
        config = load_config()
        for stage in OUTPUTS:
            os.environ["DVC_STAGE"] = stage
            with track(stage, config) as tracker:
                tracker.finish(Summary(stage))
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
    return folder


@pytest.fixture
def here(recorded, monkeypatch):
    monkeypatch.chdir(recorded)
    monkeypatch.setenv("DVC_ROOT", str(recorded))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield recorded
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def ask(capsys, *words):
    assert main(["runs", "--json", *map(str, words)]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("path", "stage", "restore"),
    [
        ("models/adapter", "finetune", "dvc checkout models/adapter"),
        ("models/adapter/adapter_config.json", "finetune", "dvc checkout models/adapter"),
        ("data/split.csv", "split", "dvc checkout data/split.csv"),
        ("reports/metrics.json", "evaluate", "git restore reports/metrics.json"),
    ],
)
def test_a_file_leads_to_its_run(here, capsys, path, stage, restore):
    answer = ask(capsys, path)
    assert answer["made_by"]["name"] == stage
    assert answer["made_by"]["within"] == "first"
    assert answer["made_by"]["commit"] == git(here, "rev-parse", "HEAD")
    assert "/".join(filter(None, (answer["output"], answer["member"]))) == path
    assert answer["restore"] == restore
    if path == "data/split.csv":
        assert {run["name"] for run in answer["read_by"]} == {"finetune", "evaluate"}


def test_a_copy_elsewhere_is_known_by_its_content(here, capsys, tmp_path):
    copy = tmp_path / "under another name.bin"
    shutil.copy("models/adapter/adapter_model.safetensors", copy)
    answer = ask(capsys, copy)
    assert (answer["output"], answer["member"]) == ("models/adapter", "adapter_model.safetensors")
    folder = shutil.copytree("models/adapter", tmp_path / "copied adapter")
    assert ask(capsys, folder)["output"] == "models/adapter"


def test_only_a_copy_is_called_one(here, capsys, tmp_path, monkeypatch):
    copy = shutil.copy("reports/metrics.json", tmp_path / "copied.json")
    for typed, head in (
        ("reports/metrics.json", "reports/metrics.json ("),
        (here / "reports/metrics.json", f"{here}/reports/metrics.json ("),
        ("models/adapter/adapter_config.json", "models/adapter/adapter_config.json ("),
        (copy, f"{copy} is a copy of reports/metrics.json ("),
    ):
        assert main(["runs", str(typed)]) == 0
        assert capsys.readouterr().out.startswith(head)
    monkeypatch.chdir(here / "reports")
    assert main(["runs", "metrics.json"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("metrics.json (")
    assert re.search(
        r"browse: make ui, then http://127.0.0.1:5000/#/experiments/\d+/runs/", printed
    )


def test_files_of_folders_are_found_without_dvcs_cache(here, capsys, tmp_path, monkeypatch):
    hidden = Path(".dvc/cache").rename(tmp_path / "cache")
    try:
        answer = ask(capsys, "models/adapter/adapter_config.json")
        assert answer["made_by"]["name"] == "finetune"
    finally:
        shutil.rmtree(".dvc/cache", ignore_errors=True)
        hidden.rename(".dvc/cache")


def test_a_file_that_no_run_made_is_one_message(here, capsys, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("changed")
    assert main(["runs", str(other)]) == 2
    message = capsys.readouterr().err
    assert f"no run made {other} (MD5 " in message
    assert "4 runs were searched at sqlite:///" in message
    assert "Traceback" not in message
    assert main(["runs", "no-such-run"]) == 2
    assert "no file no-such-run, and no run of this id or name among 4" in capsys.readouterr().err


def test_a_run_leads_to_its_files_by_id_and_by_name(here, capsys):
    run = {run.info.run_name: run for run in stages()[1]}["finetune"].info.run_id
    for name in (run, run[:8], "finetune"):
        answer = ask(capsys, name)
        assert answer["id"] == run
        assert [file["path"] for file in answer["made"]] == [
            "models/adapter",
            "reports/training.json",
        ]
        assert [file["path"] for file in answer["read"]] == ["data/split.csv"]
    whole = ask(capsys, "first")
    assert [file["stage"] for file in whole["made"]] == [
        "split", "finetune", "finetune", "evaluate"
    ]  # fmt: skip
    assert main(["runs", "first"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("first ")
    assert any("models/adapter" in line and "dvc checkout" in line for line in lines)


def test_the_command_brings_back_an_older_commits_file(here, capsys, tmp_path):
    """It runs, and its file has the content that was asked for."""
    old = Path("models/adapter/adapter_config.json").read_text()
    kept = shutil.copy("models/adapter/adapter_config.json", tmp_path / "old.json")
    Path("models/adapter/adapter_config.json").unlink()
    Path("models/adapter/adapter_config.json").write_text('{"r": 8}')
    try:
        dvc_commit()
        git(here, "commit", "--quiet", "--all", "-m", "second")
        command = ask(capsys, kept)["restore"]
        assert command.startswith("dvc get . models/adapter/adapter_config.json --rev ")
        subprocess.run(command, shell=True, check=True)
        (copy,) = Path().glob("adapter_config-*.json")
        assert copy.read_text() == old
        copy.unlink()
    finally:
        git(here, "reset", "--quiet", "--hard", "HEAD~1")
        Path("models/adapter/adapter_config.json").unlink()
        Path("models/adapter/adapter_config.json").write_text(old)


def test_from_a_subfolder_paths_are_the_users(here, capsys, monkeypatch):
    monkeypatch.chdir(here / "models")
    assert ask(capsys, "adapter")["made_by"]["name"] == "finetune"
