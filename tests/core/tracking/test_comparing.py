"""What people compare by: settings and results on one row, names, the model's version, origins."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking import dvc, naming, origin, records
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.runs import track
from abo_vqa.evaluation.summary import headline_metrics, metrics_by_folder
from tests.support import ROOT
from tests.support.tracking import git


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with DVC, three stages and the real settings."""
    folder = tmp_path / "checkout"
    (folder / "src").mkdir(parents=True)
    (folder / "docs").mkdir()
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "src" / "code.py").write_text("pass\n")
    (folder / "dvc.yaml").write_text(
        "stages:\n"
        "  split: {cmd: 'true', deps: [src/code.py], outs: [reports/baselines/blip]}\n"
        "  finetune: {cmd: 'true', params: [seed], outs: [models/adapter]}\n"
        "  evaluate: {cmd: 'true', outs: [reports/scores]}\n"
    )
    for name in ("reports/baselines/blip", "models/adapter", "reports/scores"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text(name)
    git(folder, "init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    (folder / ".gitignore").write_text("mlflow.db\nmlartifacts\n.cache\nreports\nmodels\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.setenv("DVC_EXP_NAME", "same")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    yield load_config()
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def runs():
    client = connect()
    experiment = client.get_experiment_by_name("abo-vqa")
    found = client.search_runs([experiment.experiment_id])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return experiment, parents, {run.info.run_name: run for run in children}


def test_a_row_holds_settings_and_results(checkout, monkeypatch):
    text = Path("params.yaml").read_text().replace("  r: 16 ", "  r: 8 ")
    Path("params.yaml").write_text(text)
    config = load_config()
    metrics = {
        "finetuned": {"accuracy": 0.7, "gain_over_blind": 0.3, "coverage": 1.0},
        "blip": {"accuracy": 0.5, "gain_over_blind": 0.1, "coverage": 1.0},
        "blind-type": {"accuracy": 0.4, "gain_over_blind": 0.0, "coverage": 1.0},
    }
    with track("split", config) as tracker:  # stands for the baseline here
        tracker.finish(Summary("answers"))
    with track("finetune", config) as tracker:
        tracker.finish(Summary("16 layers", headline={"best_validation_accuracy": 0.6}))
    with track("evaluate", config) as tracker:
        summary = Summary(
            "finetuned 0.700",
            headline=headline_metrics(metrics),
            results=metrics_by_folder(metrics, "blind-type"),
        )
        tracker.finish(summary)
    experiment, (parent,), children = runs()
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "visual question answering" in experiment.tags["mlflow.note.content"]
    assert parent.data.params["lora.r"] == "8"
    assert parent.data.params["profile"] == "sample"
    assert parent.data.params["baselines.fraction"] == "1.0"
    found = parent.data.metrics
    assert (found["accuracy"], found["gain_over_blind"]) == (0.7, 0.3)
    assert (found["best_validation_accuracy"], found["blip/accuracy"]) == (0.6, 0.5)
    stages = [child.data.metrics["stage_seconds"] for child in children.values()]
    assert found["seconds"] >= sum(stages)
    tags = parent.data.tags
    assert tags["abo_vqa.changed"] == "lora.r=8 (was 16)"
    assert tags["mlflow.user"] not in ("", "unknown")
    assert tags["mlflow.source.name"]
    assert tags["mlflow.source.git.dirty"] == "false"
    for text in ("`lora.r` 8 (was 16)", "finetune (", "16 layers", "finetuned 0.700"):
        assert text in tags["mlflow.note.content"]
    # what evaluate found is on the runs that made what it tested
    assert children["split"].data.metrics["accuracy"] == 0.5
    assert children["finetune"].data.metrics["accuracy"] == 0.7
    assert children["finetune"].data.params["version.pandas"]
    assert children["finetune"].data.params["cpu"]


def test_the_same_name_on_another_commit_is_another_parent(checkout):
    with track("split", checkout):
        pass
    Path("src/code.py").write_text("changed\n")
    git(".", "commit", "--quiet", "--all", "-m", "second")
    Path("src/code.py").write_text("changed again\n")
    with track("split", checkout):
        pass
    _, parents, _ = runs()
    assert {parent.data.tags["mlflow.source.git.commit"] for parent in parents} == {
        git(".", "rev-parse", "HEAD"),
        git(".", "rev-parse", "HEAD~"),
    }
    newest = max(parents, key=lambda run: run.info.start_time)
    assert newest.data.tags["mlflow.source.git.dirty"] == "true"


@pytest.mark.parametrize("address", ["../dvc.yaml:split", "dvc.yaml:split", "split", ""])
def test_a_stage_addressed_from_anywhere_is_found(checkout, monkeypatch, address, capsys):
    monkeypatch.setenv("DVC_STAGE", address)
    with track("split", checkout):
        pass
    tags = runs()[2]["split"].data.tags
    assert tags["dvc.stage"] == "split"
    assert set(tags) >= {"dvc.deps", "dvc.out.reports/baselines/blip"}
    assert tags["dvc.deps"].split(" ")[1] == "src/code.py"
    assert "not recorded" not in capsys.readouterr().err


def test_real_dvc_from_a_subfolder_and_by_pipeline(checkout):
    """Every stage runs the stand-in below, which tells what DVC calls it."""
    words = f"{sys.executable} -c 'import os; print(os.environ[\"DVC_STAGE\"])'"
    Path("dvc.yaml").write_text(f"stages:\n  split:\n    cmd: {words}\n")
    said = []
    for folder, more in (("docs", ["-s", "../dvc.yaml:split"]), ("docs", ["-P"]), (".", ["split"])):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "-f", *more], cwd=folder, check=True,
            capture_output=True, text=True, env={**os.environ, "DVC_ROOT": ""},
        )  # fmt: skip
        (line,) = [line for line in done.stdout.splitlines() if line.endswith("split")]
        said.append(line)
    for address in said:
        os.environ["DVC_STAGE"] = address
        try:
            assert dvc.stage_name("x") == "split"
        finally:
            del os.environ["DVC_STAGE"]


def test_params_deps_are_no_tags(checkout):
    assert set(dvc.stage_files("finetune").tags()) == {"dvc.out.models/adapter"}


@pytest.mark.parametrize("trouble", ["missing", "refuses"])
def test_git_that_is_missing_or_refuses_is_one_warning(
    checkout, monkeypatch, tmp_path, capsys, trouble
):
    origin._warn_once.cache_clear()
    tools = tmp_path / "tools"
    tools.mkdir()
    if trouble == "refuses":
        said = "fatal: detected dubious ownership in repository at '/x'"
        (tools / "git").write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 128\n')
        (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    with track("split", checkout):
        pass
    lines = [line for line in capsys.readouterr().err.splitlines() if "without a commit" in line]
    assert len(lines) == 1
    assert ("isn't installed" if trouble == "missing" else "dubious ownership") in lines[0]
    _, (parent,), _ = runs()
    assert "mlflow.source.git.commit" not in parent.data.tags


def test_invocations_have_names_of_their_own(monkeypatch):
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    name = origin.invocation("sample").name
    assert name.startswith("by hand ")
    assert " sample 20" in name


def test_a_long_history_is_thinned_out_and_a_short_one_isnt():
    thinner = naming.MetricDownsampler()
    kept = sum(thinner.keeps("loss") for _ in range(13_640))
    assert 2000 < kept < 3500
    assert all(thinner.keeps("validation_accuracy") for _ in range(1000))


def test_settings_are_said_once_and_long_ones_are_files():
    known = {"models.blip.path": "models/blip", "seed": 42}
    record = {"path": "models/blip", "dtype": "float32"}
    assert naming.drop_known_params(record, known) == {"dtype": "float32"}
    short, long = naming.split_long_values({"a": 1, "b": "x" * 7000, "c": ""})
    assert (short, list(long)) == ({"a": "1"}, ["b"])


@pytest.fixture
def with_own_model(checkout):
    """The checkout's settings, with a model of the profile's own."""
    file = Path("conf/profiles/sample.yaml")
    profile = yaml.safe_load(file.read_text())
    profile["models"]["my-vlm"] = {"family": "chat", "path": "someone/my-vlm", "dtype": "bfloat16"}
    file.write_text(yaml.safe_dump(profile))
    return load_config()


class _SeenError(Exception):
    """Ends a stage before its work."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["curate"], None),
        (["embed"], "blip"),
        (["baseline", "--model", "blip"], "blip"),
        (["baseline", "--model", "clip-all"], "clip"),
        (["baseline", "--model", "my-vlm"], "my-vlm"),
        (["baseline", "--model", "blind"], None),
        (["finetune"], "blip"),
        (["predict"], "blip"),
        (["evaluate"], None),
        (["report"], None),
    ],
)
def test_each_stage_says_whose_weights_it_uses(with_own_model, monkeypatch, words, expected):
    seen = []

    def track_only(name, config, checkpoint=None):
        seen.append((name.partition("@")[0], checkpoint))
        raise _SeenError

    monkeypatch.setattr("abo_vqa.core.tracking.runs.track", track_only)
    with pytest.raises(_SeenError):
        main(words)
    assert seen == [(words[0], expected)]


@pytest.mark.parametrize(
    ("stage", "checkpoint", "path"),
    [
        ("predict", "blip", "models/sample/blip"),
        ("baseline@my-vlm", "my-vlm", "someone/my-vlm"),
        ("evaluate", None, None),
    ],
)
def test_a_run_holds_the_settings_of_the_weights_it_used(with_own_model, stage, checkpoint, path):
    import torch  # noqa: F401  # the number format is recorded where torch was used

    with track(stage, with_own_model, checkpoint):
        pass
    params = runs()[2][stage].data.params
    models = {name: value for name, value in params.items() if name.startswith("models.")}
    assert models.get(f"models.{checkpoint}.path") == path
    assert all(name.startswith(f"models.{checkpoint}.") for name in models)
    assert ("dtype" in params) == ("compute.device" in params) == (checkpoint is not None)


def test_records_that_an_earlier_version_left_are_read():
    end = {"run": "a", "status": "FINISHED", "line": "", "seconds": 1.0, "at": 0}
    assert records.from_json({"record": "Ending", **end}) == records.RunEnd(**end)


def test_metric_names_open_no_groups_of_their_own():
    from abo_vqa.core.nested import numeric_metrics

    assert numeric_metrics({"kinds": {"yes/no": 3}, "corpus": {"yes_no": {"no": 1}}}) == {
        "kinds/yes_no": 3.0,
        "corpus/yes_no/no": 1.0,
    }


def test_every_setting_that_changes_a_result_is_compared():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    sections = {name for name, value in params.items() if isinstance(value, dict)}
    config = load_config(ROOT / "params.yaml")
    compared = {name.partition(".")[0] for name in naming.compared_settings(config)}
    assert sections - compared == {"report", "serve", "tracking"}
    assert "ranking.candidates" in naming.stage_settings("predict", config, "blip")
