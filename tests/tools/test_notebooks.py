"""The committed notebooks are what their source gives."""

import json
import subprocess
import sys
import time
import tomllib

import pytest
from notebooks.__main__ import SERVICES, text
from notebooks.torch_fits import problems

from tests.support import ROOT


@pytest.mark.parametrize("service", SERVICES)
def test_committed_notebooks_are_those_of_the_source(service):
    """`make notebooks` writes them."""
    assert (ROOT / "notebooks" / f"{service}.ipynb").read_text(encoding="utf-8") == text(service)


@pytest.mark.parametrize("service", SERVICES)
def test_notebooks_have_no_outputs_and_no_cell_of_the_other_service(service):
    notebook = json.loads(text(service))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 10
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    source = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    other, mark = ("google.colab", "kaggle_secrets") if service == "kaggle" else ("kaggle", "colab")
    assert other not in source
    assert mark in source
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in code) == 1


@pytest.mark.parametrize("service", SERVICES)
def test_links_open_the_committed_notebooks(service):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    home = project["urls"]["Homepage"]
    link = {
        "kaggle": f"https://kaggle.com/kernels/welcome?src={home}/blob/main/notebooks/kaggle.ipynb",
        "colab": home.replace("https://github.com", "https://colab.research.google.com/github")
        + "/blob/main/notebooks/colab.ipynb",
    }[service]
    assert f"]({link})" in (ROOT / "README.md").read_text(encoding="utf-8")
    cells = json.loads(text(service))["cells"]
    assert f'REPOSITORY = "{home}"\n' in cells[1]["source"]


def test_secrets_reach_the_environment_and_no_output():
    """Kaggle's client, whose message about a missing key quotes what it was asked."""
    program = f"""
import os, sys, types
class UserSecretsClient:
    def get_secret(self, name):
        if name == "HF_TOKEN":
            raise ValueError("no secret: s3cret-of-the-message")
        return "s3cret"
sys.modules["kaggle_secrets"] = types.SimpleNamespace(UserSecretsClient=UserSecretsClient)
{cell("kaggle", "SECRETS =")}
assert os.environ["GEMINI_API_KEY"] == "s3cret"
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "HF_TOKEN: not set\n"
    assert "s3cret" not in done.stderr


def test_only_a_torch_that_fits_is_kept(tmp_path):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\ndependencies = ["torch>=2,<9", "torchvision>=0.2,<9"]\n')
    assert all("can't use a GPU" in reason for reason in problems(pyproject))
    pyproject.write_text('[project]\ndependencies = ["torch>=2,<9", "torchvision>=99"]\n')
    (reason,) = problems(pyproject)
    assert reason.startswith("torchvision 0.")
    assert reason.endswith("isn't >=99")


def cell(service, mark):
    cells = json.loads(text(service))["cells"]
    return next("".join(c["source"]) for c in cells if mark in "".join(c["source"]))


def pipeline(changed, codes, processes):
    """The commands of the notebook's run, and whether it says that it has finished.

    Args:
        changed: what `dvc status` lists.
        codes: exit codes by a word of a command.
    """
    commands = []

    def run(*words, check=True):
        commands.append(" ".join(map(str, words)))
        return next((code for word, code in codes.items() if word in words), 0)

    space = {
        "run": run, "output": lambda *words: json.dumps({name: [] for name in changed}),
        "PROCESSES": processes, "HOURS": 8.5, "BEGAN": time.monotonic(), "EVERY": 10,
        "EMBEDDINGS": False, "SAVED": "DIR", "json": json, "time": time,
    }  # fmt: skip
    exec(compile(cell("kaggle", "def pipeline():"), "cell", "exec"), space)
    session = "abo-vqa session run --hours 8.500 --every 10 DIR "
    return [c.removeprefix(session) for c in commands], space["FINISHED"]


def test_two_gpus_share_training_and_answers():
    changed = ["baseline@blind", "baseline@blip", "baseline@llava", "finetune", "report"]
    commands, finished = pipeline(changed, {}, processes=2)
    assert commands == [
        "dvc repro embed",
        "torchrun --standalone --nproc-per-node 2 src/abo_vqa/__main__.py finetune",
        "dvc commit --force finetune",
        "dvc repro",  # whose stages are dealt to a worker for each GPU
    ]
    assert finished
    assert "EXTRAS=quant,scale" in cell("kaggle", '"make", "setup"')
    assert 'set_parameter("engine", "ray")' in cell("kaggle", "if PROCESSES > 1:")
    assert pipeline(["report"], {}, processes=2)[0] == ["dvc repro"]
    assert pipeline(changed, {}, processes=1)[0] == ["dvc repro"]


def test_when_the_time_is_over_the_notebook_ends_without_an_error():
    changed = ["baseline@blip", "finetune"]
    commands, finished = pipeline(changed, {"torchrun": 75}, processes=2)
    assert commands[-1].startswith("torchrun")  # and nothing is recorded
    assert not finished
    assert pipeline(changed, {"repro": 75}, processes=1) == (["dvc repro"], False)
    with pytest.raises(RuntimeError, match="dvc repro ended with 2; see above"):
        pipeline(changed, {"repro": 2}, processes=1)
