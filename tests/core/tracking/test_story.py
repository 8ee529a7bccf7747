"""What MLflow's browser shows of an invocation: tables, figures, what ran and what was restored."""

import json
import os
import time
from pathlib import Path

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking import dvc, outbox, resources, views
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.experiment import prepare
from abo_vqa.core.tracking.lookup import input_digests
from abo_vqa.core.tracking.runs import track
from tests.support.tracking import dvc_commit, git, make_pipeline, stages


@pytest.fixture
def pipeline(tmp_path, monkeypatch, tables):
    """A small pipeline, all of whose results DVC has recorded."""
    folder = make_pipeline(tmp_path / "checkout")
    (folder / "mlflow.db").write_bytes(tables.read_bytes())
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    dvc_commit()
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    yield load_config()
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def invoke(monkeypatch, config, name, **summaries):
    """Track stages as below one `dvc exp run`."""
    monkeypatch.setenv("DVC_EXP_NAME", name)
    for stage, summary in summaries.items():
        monkeypatch.setenv("DVC_STAGE", stage)
        with track(stage, config) as tracker:
            tracker.finish(summary)
    client = connect()
    experiment = client.get_experiment_by_name("abo-vqa").experiment_id
    (parent,) = client.search_runs([experiment], f"attributes.run_name = '{name}'")
    return parent


def test_restored_stages_are_named_with_the_run_that_made_them(pipeline, monkeypatch):
    first = invoke(
        monkeypatch, pipeline, "first",
        split=Summary("402 test rows"),
        finetune=Summary("trained", headline={"best_validation_accuracy": 0.6}),
        evaluate=Summary("a table\nof models", outcome="70% right", headline={"accuracy": 0.7}),
    )  # fmt: skip
    assert first.data.tags["abo_vqa.stages_run"] == "split, finetune, evaluate"
    assert "abo_vqa.stages_restored" not in first.data.tags
    note = first.data.tags["mlflow.note.content"]
    assert [word in note for word in ("402 test rows", "trained", "70% right")] == [True] * 3
    assert "a table" not in note
    second = invoke(monkeypatch, pipeline, "second", evaluate=Summary("x", headline={"rows": 3}))
    tags = second.data.tags
    assert tags["abo_vqa.stages_run"] == "evaluate"
    assert tags["abo_vqa.stages_restored"] == "finetune, split"
    link = f"[first](#/experiments/{first.info.experiment_id}/runs/{first.info.run_id})"
    assert f"- not run, restored from {link}: finetune, split" in tags["mlflow.note.content"]
    # experiments compare by what was restored as well
    assert second.data.metrics["best_validation_accuracy"] == 0.6
    assert second.data.metrics["rows"] == 3


def test_results_from_before_the_records_are_called_so(pipeline, monkeypatch):
    parent = invoke(monkeypatch, pipeline, "only", evaluate=Summary("done"))
    note = parent.data.tags["mlflow.note.content"]
    assert "- not run, and made before runs were recorded here: finetune, split" in note


def test_a_stage_with_the_results_of_another_one_names_it(pipeline, monkeypatch):
    """DVC takes from its cache what another stage of the same invocation has just made."""
    text = Path("dvc.yaml").read_text()
    again = "  resplit: {cmd: python3 stage.py resplit, outs: [data/resplit.csv]}\n"
    text = text.replace("  evaluate:", f"{again}  evaluate:")
    Path("dvc.yaml").write_text(
        text.replace("deps: [data/split.csv, ", "deps: [data/resplit.csv, ")
    )
    Path("data/resplit.csv").write_bytes(Path("data/split.csv").read_bytes())
    dvc_commit()
    first = invoke(monkeypatch, pipeline, "first", split=Summary(""), evaluate=Summary("done"))
    note = first.data.tags["mlflow.note.content"]
    assert "- not run, the same results as split: resplit" in note
    assert "- not run, and made before runs were recorded here: finetune\n" in note
    assert first.data.tags["abo_vqa.stages_restored"] == "finetune, resplit"
    second = invoke(monkeypatch, pipeline, "second", evaluate=Summary("done"))
    link = f"[first](#/experiments/{first.info.experiment_id}/runs/{first.info.run_id})"
    note = second.data.tags["mlflow.note.content"]
    assert f"- not run, restored from {link}: split" in note
    assert f"- not run, the same results as split of {link}: resplit" in note


def test_a_description_starts_with_the_result(pipeline, monkeypatch, tmp_path):
    """The browser hides the end of a long one. The report's sentence replaces evaluate's."""
    figure = tmp_path / "models.png"
    figure.write_bytes(b"a figure")
    first = invoke(
        monkeypatch, pipeline, "first",
        split=Summary("402 test rows"), evaluate=Summary("a table", outcome="70% are right"),
    )  # fmt: skip
    note = first.data.tags["mlflow.note.content"].splitlines()
    assert note[:2] == ["**70% are right**", ""]
    assert "profile sample" in note[2]
    assert note[3].startswith("- split (")
    report = Summary("It answers 70%.\n5 figures", highlights=(figure,))
    second = invoke(
        monkeypatch, pipeline, "second",
        evaluate=Summary("a table", outcome="70% are right"), report=report,
    )  # fmt: skip
    note = second.data.tags["mlflow.note.content"].splitlines()
    assert note[:2] == ["**It answers 70%.**", ""]
    assert "**70% are right**" not in note
    assert any(line.endswith("s): 70% are right") for line in note)


def test_a_failed_stage_has_no_result(pipeline, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "failed")
    monkeypatch.setenv("DVC_STAGE", "evaluate")
    with pytest.raises(ValueError, match="wrong"), track("evaluate", pipeline) as tracker:
        tracker.finish(Summary("", outcome="70% are right"))
        raise ValueError("something is wrong")
    client, (run,) = stages()
    note = client.get_run(run.data.tags["mlflow.parentRunId"]).data.tags["mlflow.note.content"]
    assert not note.startswith("**")
    assert "failed: " in note


def test_other_results_of_a_stage_arent_the_restored_ones(pipeline, monkeypatch):
    invoke(monkeypatch, pipeline, "first", split=Summary(""), finetune=Summary(""))
    Path("models/adapter/adapter_config.json").unlink()
    Path("models/adapter/adapter_config.json").write_text('{"r": 8}')
    dvc_commit()
    parent = invoke(monkeypatch, pipeline, "second", evaluate=Summary(""))
    note = parent.data.tags["mlflow.note.content"]
    assert "restored from [first]" in note.partition(": split")[0]
    assert "before runs were recorded here: finetune" in note


def test_a_stage_by_hand_rests_on_nothing(pipeline, monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setenv("DVC_EXP_NAME", "by hand")
    with track("evaluate", pipeline) as tracker:
        tracker.finish(Summary(""))
    client, (run,) = stages()
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert "abo_vqa.stages_restored" not in parent.data.tags


def test_inputs_are_one_tag_and_folders_list_their_files(pipeline, monkeypatch):
    invoke(monkeypatch, pipeline, "first", finetune=Summary(""))
    client, (run,) = stages()
    assert not [key for key in run.data.tags if key.startswith("dvc.dep.")]
    assert list(input_digests(run)) == ["data/split.csv"]
    assert run.data.tags["dvc.deps"].startswith(input_digests(run)["data/split.csv"])
    listing = json.loads(Path(client.download_artifacts(run.info.run_id, dvc.MEMBERS)).read_text())
    assert list(listing) == ["models/adapter"]
    assert set(listing["models/adapter"]) == {"adapter_config.json", "adapter_model.safetensors"}


def test_many_inputs_fit_into_a_tag():
    files = dvc.StageFiles(deps={f"data/{n:04}" * 5: "0" * 32 for n in range(500)})
    text = files.tags()[dvc.DEPS]
    assert 7000 < len(text) <= 8000
    assert all(len(line) == 33 + 45 for line in text.splitlines())


def test_tables_and_figures_can_be_seen(checkout, tmp_path):
    """As MLflow's own table artifacts, once each, and the figures also on the parent."""
    figure = tmp_path / "models.png"
    figure.write_bytes(b"a figure")
    columns = {"question": ["What color?", "How many?"], "correct": [True, False]}
    with track("evaluate", checkout) as tracker:
        tracker.finish(Summary("", tables={"answers": columns}, highlights=(figure,)))
        waiting = list(tracker.outbox.pending)
    client, (run,) = stages()
    logged = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert logged == [{"path": "tables/answers.json", "type": "table"}]
    table = client.load_table(run.info.experiment_id, "tables/answers.json", [run.info.run_id])
    assert table.to_dict("list") == columns
    parent = run.data.tags["mlflow.parentRunId"]
    assert [file.path for file in client.list_artifacts(parent)] == ["models.png"]
    # the outbox may write a record twice, and MLflow would append
    for record in waiting:
        if type(record).__name__ == "Table":
            record.deliver(tracker.outbox.runs)
    assert outbox.from_json({"record": "Table", "run": "a", "file": "t", "columns": {}})
    table = client.load_table(run.info.experiment_id, "tables/answers.json", [run.info.run_id])
    assert len(table) == 2


def test_long_work_has_system_metrics_and_short_work_waits_for_nothing(checkout, monkeypatch):
    with track("split", checkout):
        pass
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with track("finetune", checkout):
        time.sleep(1)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with track("predict", checkout):
        time.sleep(0.5)
    client, runs = stages()
    by_name = {run.info.run_name: run for run in runs}
    metrics = by_name["finetune"].data.metrics
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
    assert metrics["system/system_memory_usage_megabytes"] > 0
    points = client.get_metric_history(
        by_name["finetune"].info.run_id, "system/cpu_utilization_percentage"
    )
    assert 2 <= len(points) <= 12
    for name in ("split", "predict"):
        assert not [key for key in by_name[name].data.metrics if key.startswith("system/")]


def test_the_monitor_outlives_no_work():
    taken = []
    monitor = resources.ResourceMonitor(taken.append)
    monitor.start()
    began = time.monotonic()
    monitor.stop()
    monitor._thread.join(timeout=5)
    assert time.monotonic() - began < 1
    assert not monitor._thread.is_alive()
    assert monitor._thread.daemon
    assert not taken


def test_views_are_saved_once_and_linked(checkout):
    experiment = prepare("abo-vqa")
    client = connect()
    tags = client.get_experiment(experiment).tags
    keys = [key for key in tags if key.startswith("mlflow.sharedViewState.")]
    assert len(keys) == 2
    for key in keys:
        assert f"viewStateShareKey={key.rpartition('.')[2]})" in tags["mlflow.note.content"]
    client.set_experiment_tag(experiment, "mlflow.note.content", "mine")
    client.set_experiment_tag(experiment, keys[0], "changed in the browser")
    prepare("abo-vqa")
    kept = client.get_experiment(experiment).tags
    assert (kept["mlflow.note.content"], kept[keys[0]]) == ("mine", "changed in the browser")
    assert "Compare experiments" in views.experiment_note(experiment)
