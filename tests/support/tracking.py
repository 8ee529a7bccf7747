"""What MLflow has recorded, and a small pipeline to record."""

import shutil
import subprocess
import sys

from dvc.repo import Repo

from abo_vqa.core.tracking.backend import connect
from tests.support import ROOT


def stages():
    """The runs that aren't parents, newest first, by name."""
    client = connect()
    experiment = client.get_experiment_by_name("abo-vqa").experiment_id
    found = client.search_runs([experiment])
    return client, [run for run in found if "mlflow.parentRunId" in run.data.tags]


def git(folder, *words):
    """Git's answer, with an identity of its own."""
    return subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


PIPELINE = """\
stages:
  split: {cmd: python3 stage.py split, outs: [data/split.csv]}
  finetune: {cmd: python3 stage.py finetune, deps: [data/split.csv], params: [lora.r],
             outs: [models/adapter], metrics: [reports/training.json: {cache: false}]}
  evaluate: {cmd: python3 stage.py evaluate, deps: [data/split.csv, models/adapter],
             params: [evaluate], metrics: [reports/metrics.json: {cache: false}]}
"""
OUTPUTS = {
    "split": {"data/split.csv": "question,answer\nWhat color?,red\n"},
    "finetune": {
        "models/adapter/adapter_config.json": '{"r": 16}',
        "models/adapter/adapter_model.safetensors": "weights",
        "reports/training.json": '{"best_validation_accuracy": 0.6}',
    },
    "evaluate": {"reports/metrics.json": '{"accuracy": 0.7}'},
}


def make_pipeline(folder):
    """A repository with DVC, the real settings, and three stages that depend on each other."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / ".gitignore").write_text("/mlflow.db\n/mlartifacts\n/.cache\n/data\n/models\n")
    git(folder, "init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    write_outputs(folder, *OUTPUTS)
    return folder


def write_outputs(folder, *stages):
    """What the stages write."""
    for stage in stages:
        for name, text in OUTPUTS[stage].items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)  # a link to DVC's cache
            file.write_text(text)


def dvc_commit():
    """Have DVC record the outputs as they are, in its cache and in dvc.lock."""
    with Repo() as repo:
        repo.commit(force=True)
