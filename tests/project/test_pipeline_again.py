"""What happens after the first run: queues, kills, seeds, other clones, new sessions."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import scratch
from helpers.scratch import run

from tests.support import notebooks
from tests.support.pipelines import clone_to, tracked

# The clone's fixture runs every stage: five minutes, and more on a machine that does much else.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_colleague_pulls_all_results_and_recomputes_none(clone, tmp_path):
    run(clone, "dvc", "remote", "add", "--default", "team", str(tmp_path / "remote"))
    run(clone, "dvc", "push", "--quiet")
    run(clone, "git", "add", "--all")
    run(clone, "git", "commit", "--quiet", "-m", "results of the first run, and a remote")
    second = tmp_path / "second"
    run(tmp_path, "git", "clone", "--quiet", str(clone), str(second))
    run(second, "dvc", "pull", "--quiet")
    assert "Running stage" not in run(second, "dvc", "repro")
    for name in ("models/adapter/adapter_model.safetensors", "reports/report.html"):
        assert (second / name).read_bytes() == (clone / name).read_bytes()
    assert "Same answers: blip, " in run(second, "abo-vqa", "changes", "HEAD")


def test_every_stage_on_ray_writes_the_same_bytes(clone):
    """Workers and one process that has everything: dvc.lock, and with it every output."""
    pytest.importorskip("ray")
    params = clone / "params.yaml"
    before, lock = params.read_text(), (clone / "dvc.lock").read_bytes()
    params.write_text(before.replace("engine: local", "engine: ray"))
    try:
        said = run(clone, "dvc", "repro", "--force")
    finally:
        params.write_text(before)
    assert "Running stage 'baseline@llava'" in said
    assert (clone / "dvc.lock").read_bytes() == lock


def test_temp_and_queued_runs_land_in_the_same_database(clone):
    run(clone, "git", "checkout", "--force", "HEAD")
    run(clone, "dvc", "checkout", "--force")
    run(clone, "dvc", "exp", "run", "--temp", "-n", "in-temp", "-S", "lora.epochs=1")
    run(clone, "dvc", "exp", "run", "--queue", "-n", "in-queue", "-S", "lora.epochs=2")
    run(clone, "dvc", "exp", "run", "--run-all")
    _, runs = tracked(clone)
    names = [r.data.tags["mlflow.runName"] for r in runs]
    assert {"in-temp", "in-queue"} <= set(names)
    epochs = {r.data.params.get("lora.epochs") for r in runs}
    assert {"1", "2"} <= epochs


def test_killed_experiment_goes_on_and_keeps_uncommitted_edits(clone):
    """What docs/experiments.md tells people to do after `kill -9` of DVC in training."""
    run(clone, "git", "checkout", "--force", "HEAD")
    run(clone, "dvc", "checkout", "--force")
    branch = run(clone, "git", "branch", "--show-current").strip()
    edited, note = clone / "README.md", clone / "note.txt"
    edited.write_text(edited.read_text() + "my edit\n")
    note.write_text("mine")
    words = ["exp", "run", "-n", "killed", "-S", "lora.r=7", "-S", "lora.epochs=25", "finetune"]
    log = clone.parent / "killed.txt"
    with log.open("w") as out:
        dvc = subprocess.Popen(
            [sys.executable, "-m", "dvc", *words], cwd=clone, stdout=out, stderr=out,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
        deadline = time.monotonic() + 120
        checkpoints = clone / ".cache" / "abo-vqa" / "finetune"
        while not list(checkpoints.glob("*/step-*.pt")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        dvc.kill()
        dvc.wait()
    while "run it again to continue" not in log.read_text():  # the stage itself ends by itself
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert run(clone, "git", "stash", "list") == ""
    run(clone, "git", "switch", branch)
    said = run(clone, "dvc", *words)
    assert "fine-tuning:   0%" not in said.split("Running stage 'finetune'")[1]
    assert "Ran experiment" in said
    assert run(clone, "git", "branch", "--show-current").strip() == branch
    assert edited.read_text().endswith("my edit\n")
    assert note.read_text() == "mine"


def test_seeds_and_sweep_on_the_real_stages(clone):
    """Two seeds beside the commit's results; baselines and split aren't run again."""
    run(clone, "git", "add", "--all")
    run(clone, "git", "commit", "--quiet", "--allow-empty", "-m", "results of the last run")
    said = run(clone, "abo-vqa", "seeds", "--n", "2", "-S", "lora.epochs=1")
    executed = re.findall("Running stage '(.+)'", said)
    assert executed == 2 * ["finetune", "predict", "evaluate", "report"]
    seeds = json.loads((clone / "reports" / "seeds" / "seeds.json").read_text())
    assert [seed["seed"] for seed in seeds["runs"]] == [1, 2]
    assert all(seed["seconds"] > 0 for seed in seeds["runs"])
    said = run(clone, "abo-vqa", "sweep")
    assert re.search(r"seeds-\w+-1 … seeds-\w+-2\n", said), said
    assert "from 2 runs of settings that have several" in said
    assert run(clone, "git", "status", "--porcelain", "--", "params.yaml", "src") == ""


def test_two_clones_give_the_same_bytes(clone, tmp_path):
    run(clone, "git", "stash", "--quiet", "--include-untracked")
    second = clone_to(tmp_path / "second")
    run(second, "dvc", "repro")
    first = clone_to(tmp_path / "first")
    run(first, "dvc", "repro")
    for name in ("dvc.lock", "data/vqa.csv", "data/test.csv", "reports/metrics.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_notebook_killed_in_training_continues_in_a_new_clone(clone, saved, tmp_path):
    """The machine, with its checkout, is gone; the same bytes come out as without."""
    origin = scratch.clone(tmp_path / "origin")
    text = (origin / "params.yaml").read_text()
    (origin / "params.yaml").write_text(re.sub(r"(?m)^  epochs: null", "  epochs: 12", text))
    scratch.commit(origin)
    parameters = {"PROFILE": "sample", "REPOSITORY": str(origin), "EVERY": 0.1}

    places = {}
    for name in ("undisturbed", "killed"):
        folder = Path(shutil.copytree(saved, tmp_path / name / "saved")).parent
        places[name] = {"CHECKOUT": str(folder / "abo-vqa"), "SAVED": str(folder / "saved")}
    notebooks.execute("colab", tmp_path, **parameters, **places["undisturbed"])
    parameters |= places["killed"]
    process = notebooks.start("colab", tmp_path, **parameters)
    deadline = time.monotonic() + 600
    while not notebooks.saved_checkpoints(tmp_path / "killed/saved"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    notebooks.kill(process)
    shutil.rmtree(tmp_path / "killed/abo-vqa")
    printed = notebooks.printed(notebooks.execute("colab", tmp_path, **parameters))
    training = printed.split("Running stage 'finetune'")[1]
    assert "fine-tuning:   0%" not in training
    for name in ("models/adapter/adapter_model.safetensors", "reports/training.json",
                 "reports/metrics.json", "dvc.lock"):  # fmt: skip
        ours, theirs = (tmp_path / f"{one}/abo-vqa" / name for one in ("killed", "undisturbed"))
        assert ours.read_bytes() == theirs.read_bytes(), name
