"""A DVC repository in small, whose stages write in a second what training writes in minutes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support import ROOT
from tests.support.dvc_clones import call

# Accuracy follows from the rank and the seed; a rank of 13 fails. The real stages' files.
_STAGES = """
import json, sys
from pathlib import Path
import numpy as np, pandas as pd, yaml

params = yaml.safe_load(Path("params.yaml").read_text())
lora, stage = params["lora"], sys.argv[1]
seed = params["seed"] if lora.get("seed") is None else lora["seed"]
if stage == "finetune":
    if lora["r"] == 13:
        sys.exit("thirteen")
    Path("models/adapter").mkdir(parents=True, exist_ok=True)
    Path("models/adapter/weights.json").write_text(json.dumps([lora, seed]))
    training = {"best_validation_accuracy": 0.5 + lora["r"] / 100}
    Path("reports/training.json").write_text(json.dumps(training))
elif stage == "predict":
    Path("reports/finetuned").mkdir(parents=True, exist_ok=True)
    Path("reports/finetuned/predictions.csv").write_text(f"{lora['r']},{seed}")
else:
    n = 300
    easy = np.random.default_rng(params["split"]["test_size"] == 0.2).random(n)
    luck = np.random.default_rng([seed, int(lora["r"])])
    share = 0.4 + lora["r"] / 40 + 0.01 * luck.standard_normal()
    right = (easy + 0.1 * luck.random(n) < share).astype(float)
    answer = str(params["split"]["test_size"])
    table = pd.DataFrame({
        "row_id": range(n), "image_path": [f"{i // 3}.jpg" for i in range(n)],
        "question": "what?", "answer": answer, "accuracy": right,
        "prediction": np.where(right == 1, answer, "none"), "error": "",
    })
    Path("reports/scores").mkdir(parents=True, exist_ok=True)
    table.to_parquet("reports/scores/finetuned.parquet")
    Path("reports/metrics.json").write_text(json.dumps({"finetuned": {"accuracy": right.mean()}}))
"""


def _stage(name: str, deps: list[str], params: list[str], out: str, metric: str = "") -> dict:
    stage = {
        "cmd": f"{sys.executable} stages.py {name}",
        "deps": ["src/stages", *deps],
        "params": ["seed", *params, {"conf/profiles/sample.yaml": ["defaults.lora"]}],
        "outs": [out],
    }
    if metric:
        stage["metrics"] = [{metric: {"cache": False}}]
    return stage


def make(root: Path) -> Path:
    """The repository, with the results of the default settings committed.

    Ranks 2, 4, 8 and 16 have accuracies of about .43, .48, .58 and .78.
    """
    shutil.copytree(ROOT / "conf", root / "conf")
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copy(ROOT / ".gitignore", root)
    (root / "stages.py").write_text(_STAGES)
    (root / "src/stages").mkdir(parents=True)
    (root / "src/stages/code.py").write_text("")
    stages = {
        "finetune": _stage("finetune", [], ["lora"], "models/adapter", "reports/training.json"),
        "predict": _stage("predict", ["models/adapter"], ["lora.r"], "reports/finetuned"),
        "evaluate": _stage(
            "evaluate", ["reports/finetuned"], ["split"], "reports/scores", "reports/metrics.json"
        ),
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / "reports").mkdir()
    run(root, "git", "init", "--quiet", "--initial-branch", "main")
    for key, value in (("user.name", "scratch"), ("user.email", "scratch@example.org")):
        run(root, "git", "config", key, value)
    call(root, "init", "--quiet")
    call(root, "config", "core.analytics", "false")
    call(root, "config", "core.autostage", "true")
    call(root, "repro", "--quiet")
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "-m", "results")
    return root


def dvc(root: Path, *words: str) -> str:
    return run(root, sys.executable, "-m", "dvc", *words)


def run(root: Path, *command: str) -> str:
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert process.returncode == 0, f"{command}\n{process.stdout}{process.stderr}"
    return process.stdout


def write_ceiling(root: Path, answer: str) -> None:
    """An evaluation with a ceiling, of the test rows whose answer is this one."""
    rows = [f"{i // 3}.jpg,what?,{answer}" for i in range(300)]
    (root / "data").mkdir(exist_ok=True)
    (root / "data/test.csv").write_text("\n".join(["image_path,question,answer", *rows, ""]))
    (root / "reports/evaluation.json").write_text(json.dumps({"ceiling": {"accuracy": 0.912}}))


def remove_ceiling(root: Path) -> None:
    """Remove what `write_ceiling` wrote."""
    (root / "data/test.csv").unlink()
    (root / "reports/evaluation.json").unlink()
