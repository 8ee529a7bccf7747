"""A catalogue of one's own: git never gets it, DVC pins it, experiments read it."""

import shutil
import sys

import pytest
import yaml

from tests.support import ROOT, experiments

FILES = (".gitignore", "data/raw/.gitignore", "models/.gitignore", "models/abo/README.md")
STAGE = """
from pathlib import Path
images = sorted(Path("data/raw/mine").glob("*.jpg")) + sorted(Path("models/mine").iterdir())
Path("count.txt").write_text(str(len(images)))
"""


@pytest.fixture
def repository(tmp_path):
    """A repository with this one's rules for git, a catalogue that nothing pins, and one stage."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "stage.py").write_text(STAGE)
    stage = {
        "cmd": f"{sys.executable} stage.py",
        "deps": ["data/raw/mine", "models/mine"],
        "params": ["n"],
        "outs": ["count.txt"],
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"count": stage}}))
    (tmp_path / "params.yaml").write_text("n: 1\n")
    experiments.run(tmp_path, "git", "init", "--quiet", "--initial-branch", "main")
    for key, value in (("user.name", "scratch"), ("user.email", "scratch@example.org")):
        experiments.run(tmp_path, "git", "config", key, value)
    experiments.dvc(tmp_path, "init", "--quiet")
    experiments.run(tmp_path, "git", "add", "--all")
    experiments.run(tmp_path, "git", "commit", "--quiet", "-m", "without a catalogue")
    (tmp_path / "data/raw/mine").mkdir()
    (tmp_path / "models/mine").mkdir()
    for number in range(3):
        (tmp_path / f"data/raw/mine/{number}.jpg").write_bytes(b"an image")
    (tmp_path / "models/mine/model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_an_experiment_adds_neither_images_nor_weights_to_git(repository):
    experiments.dvc(repository, "exp", "run", "--quiet")
    assert (repository / "count.txt").read_text() == "4"
    tracked = experiments.run(repository, "git", "ls-files").split()
    assert [n for n in tracked if n.endswith((".jpg", ".safetensors"))] == []
    experiments.run(repository, "git", "add", "--all")
    tracked = experiments.run(repository, "git", "ls-files").split()
    assert [n for n in tracked if n.endswith((".jpg", ".safetensors"))] == []


def test_a_pinned_catalogue_is_in_the_temporary_copy_of_an_experiment(repository):
    """DVC finds the .dvc files although git ignores the folders beside them."""
    experiments.dvc(repository, "add", "--quiet", "data/raw/mine", "models/mine")
    pins = ["data/raw/mine.dvc", "models/mine.dvc"]
    experiments.run(repository, "git", "add", *pins)
    experiments.dvc(repository, "repro", "--quiet")
    experiments.run(repository, "git", "add", "--all")
    experiments.run(repository, "git", "commit", "--quiet", "-m", "a catalogue")
    assert set(pins) <= set(experiments.run(repository, "git", "ls-files").split())
    experiments.dvc(repository, "exp", "run", "--quiet", "--temp", "-S", "n=2")
    assert experiments.dvc(repository, "exp", "list", "--name-only").split()


def test_exports_are_no_part_of_the_repository(repository):
    for name in ("export", "export-llava", "export-mine"):
        (repository / "data" / name).mkdir()
        (repository / "data" / name / "README.md").write_text("an export")
    assert experiments.run(repository, "git", "status", "--porcelain") == ""
