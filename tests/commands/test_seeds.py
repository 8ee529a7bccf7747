"""Several seeds as experiments of a real DVC repository: named, resumed, queued, summarised."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.experiments.collect import collect_experiments, open_repository
from tests.support import ROOT, experiments
from tests.support.tracking import stages


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return experiments.make(tmp_path_factory.mktemp("experiments") / "repository")


@pytest.fixture
def workspace(template, tmp_path, monkeypatch):
    shutil.copytree(template, tmp_path / "repository", symlinks=True)
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def names(root) -> list[str]:
    return sorted(experiments.dvc(root, "exp", "list", "--name-only").split())


def test_seeds_are_summarised_and_never_run_twice(workspace, capsys):
    assert main(["seeds", "--n", "2", "-S", "lora.r=8"]) == 0
    said = capsys.readouterr().out
    assert "0 of 2 seeds have been trained" in said
    first = json.loads((workspace / "reports/seeds/seeds.json").read_text())
    assert [run["seed"] for run in first["runs"]] == [1, 2]
    assert names(workspace) == [f"seeds-{first['key']}-{seed}" for seed in (1, 2)]
    assert first["test"]["low"] < first["test"]["mean"] < first["test"]["high"]
    assert first["test"]["sd"] > 0
    assert (first["test_rows"], first["test_images"]) == (300, 100)
    revs = experiments.run(workspace, "git", "for-each-ref", "refs/exps")

    assert main(["seeds", "--n", "3", "-S", "lora.r=8"]) == 0
    assert "2 of 3 seeds have been trained" in capsys.readouterr().out
    third = json.loads((workspace / "reports/seeds/seeds.json").read_text())
    assert third["runs"][:2] == first["runs"]
    assert revs in experiments.run(workspace, "git", "for-each-ref", "refs/exps")
    assert (workspace / "reports/seeds/seeds.png").is_file()
    assert "lora.seed" not in (workspace / "dvc.lock").read_text()  # the workspace is as it was
    assert experiments.run(workspace, "git", "status", "--porcelain") == ""

    experiments.write_ceiling(workspace, str(load_config().split.test_size))
    assert main(["seeds", "--n", "3", "-S", "lora.r=8"]) == 0  # from what is there
    assert "At most about 91% of all test rows can be right." in capsys.readouterr().out
    marked = json.loads((workspace / "reports/seeds/seeds.json").read_text())
    assert marked == {**third, "ceiling": {"accuracy": 0.912}}

    _, runs = stages()
    newest = next(run for run in runs if run.data.tags["mlflow.runName"] == "seeds")
    assert newest.data.metrics["mean"] == pytest.approx(third["test"]["mean"], abs=1e-6)
    assert newest.data.params["changes"] == "lora.r=8"


def test_settings_in_the_file_and_on_the_command_line_are_the_same(workspace, capsys):
    """Also `null` and the profile's value of it; what changes no result makes no other key."""
    keys = []
    for changes in (
        [],
        ["-S", "lora.epochs=6"],
        ["-S", "report.title=Other"],
        ["-S", "lora.gradient_checkpointing=true"],
        ["-S", "lora.r=8"],
    ):
        main(["seeds", "--n", "2", "--queue-only", *changes])
        keys.append(capsys.readouterr().out.split("(seeds-")[1].split("-")[0])
    assert len(set(keys[:4])) == 1
    assert keys[4] != keys[0]


def test_queued_seeds_are_left_to_the_queue(workspace, capsys):
    experiments.dvc(workspace, "exp", "run", "--queue", "--name", "mine", "-S", "lora.r=4")
    assert main(["seeds", "--n", "2", "--queue-only"]) == 0
    said = capsys.readouterr().out
    assert "queued: 2" in said
    assert "DVC's queue has 1 other experiment(s)" in said
    assert main(["seeds", "--n", "2", "--queue-only"]) == 0
    assert "queued: 0" in capsys.readouterr().out
    assert experiments.dvc(workspace, "queue", "status").count("seeds-") == 2
    assert main(["seeds", "--n", "2"]) == 75
    assert "2 of 2 seeds are in DVC's queue: `dvc queue start`" in capsys.readouterr().err


def test_sources_that_arent_committed(workspace, capsys):
    """The settings in params.yaml may differ: they are part of the key."""
    (workspace / "src/stages/new.py").write_text("")
    assert main(["seeds"]) == 2
    assert "differ from the commit, e.g. src/stages/new.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--n", "1"], "--n: found 1; at least 2"),
        (["-S", "lora.seed=3"], "-S lora.seed: this command sets it"),
        (["-S", "lora.r=0"], "lora.r: found 0"),
        (["-S", "lora.r"], "-S lora.r: "),
        (["-S", "lora.r=4,8"], "-S lora.r=4,8: "),
    ],
)
def test_mistakes(workspace, capsys, words, said):
    assert main(["seeds", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "/tmp/" not in error


@pytest.mark.slow
def test_a_seed_that_fails(workspace, capsys):
    assert main(["seeds", "--n", "2", "-S", "lora.r=13"]) == 2
    assert "seed 1 failed, for the reason above" in capsys.readouterr().err


def start(root, log):
    command = [sys.executable, str(ROOT / "src/abo_vqa"), "seeds", "--n", "2"]
    return subprocess.Popen(command, cwd=root, stdout=log, stderr=log)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(root) -> list[Path]:
    """The file that names the DVC process of the seed in training, if there is one."""
    return list(root.glob(".cache/abo-vqa/seeds/*/running"))


def killed(root, log, number) -> int:
    """Start the command, and stop it while DVC works; returns that process's number."""
    process = start(root, log)
    wait_for(lambda: running(root))
    dvc = int(running(root)[0].read_text().partition(":")[0])
    process.send_signal(number)
    assert process.wait() == (143 if number == signal.SIGTERM else -number)
    return dvc


@pytest.mark.slow
def test_sigterm_stops_dvc_too_and_the_same_command_goes_on(workspace, tmp_path):
    with (tmp_path / "log").open("w") as log:
        dvc = killed(workspace, log, signal.SIGTERM)
        assert not psutil.pid_exists(dvc)
        assert running(workspace) == []
        assert start(workspace, log).wait() == 0
    assert len(names(workspace)) == 2


@pytest.mark.slow
def test_kill_9_leaves_dvc_at_work_and_the_next_command_waits_for_it(workspace, tmp_path):
    with (tmp_path / "log").open("w") as log:
        dvc = killed(workspace, log, signal.SIGKILL)
        assert psutil.pid_exists(dvc)
        assert start(workspace, log).wait() == 0
    assert (
        f"DVC (process {dvc}) still works for a command that was" in (tmp_path / "log").read_text()
    )
    assert (tmp_path / "log").read_text().count("Reproducing experiment") == 2
    assert len(names(workspace)) == 2
    assert running(workspace) == []


@pytest.mark.slow
def test_kill_9_of_both(workspace, tmp_path):
    """DVC has no end of it on record and would show it as running for ever."""
    with (tmp_path / "log").open("w") as log:
        os.kill(killed(workspace, log, signal.SIGKILL), signal.SIGKILL)
        assert start(workspace, log).wait() == 0
    assert len(names(workspace)) == 2
    with open_repository() as repo:
        states = [experiment.state for experiment in collect_experiments(repo)]
    assert states == ["commit", "success", "success"]
