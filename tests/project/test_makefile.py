"""The Makefile in folders whose names have blanks and other letters. Nothing is installed."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.support import ROOT

ODD = ("my projects", "é ü 模型", "it's", "a&b (c)", "a;b", "$HOME", "a#b")


def checkout(folder):
    """The Makefile, with an environment whose programs only tell how they were called."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("uv", "dvc", "abo-vqa", "python", "ruff", "codespell", "mypy", "lint-imports",
                 "pytest"):  # fmt: skip
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> called\n')
        (programs / name).chmod(0o755)
    for name in ("data/raw/sample.dvc", "models/sample.dvc", "requirements.lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "data.dvc").write_text("  nfiles: 2\n")
    os.utime(programs / "uv", (1, 1))  # older than what is installed with it
    return folder


def make(folder, *words):
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ODD)
def test_targets_in_a_folder_with_an_odd_name(tmp_path, name):
    folder = checkout(tmp_path / name)
    for target in ("repro", "lint", "report"):
        done = make(folder, target)
        assert done.returncode == 0, done.stderr
        assert ("Installing torch" in done.stdout) == (target == "repro")  # once, and not unsaid
    called = (folder / "called").read_text().splitlines()
    # The environment's own programs, found by their bare names too.
    assert (
        "uv pip install --quiet --compile-bytecode --python .venv/bin/python "
        "--constraint requirements.lock --editable ." in called
    )
    assert "abo-vqa tracking" in called
    assert called.count("abo-vqa show") == 2
    assert "mypy src tools" in called
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a%20b", "a:b"])
def test_names_that_libraries_cannot_have_are_refused_before_anything_is_installed(tmp_path, name):
    folder = checkout(tmp_path / name)
    (folder / ".venv" / "bin" / "uv").unlink()
    done = make(folder, "setup", f"PYTHON={sys.executable}")
    assert done.returncode == 2
    assert f"The path {folder} has" in done.stdout
    assert "Rename that folder" in done.stdout
    assert not (folder / "called").exists()


def test_the_torch_that_is_there_and_optional_dependencies(tmp_path):
    folder = checkout(tmp_path / "mine")
    done = make(folder, "setup", "TORCH_BACKEND=system", "EXTRAS=quant,s3")
    assert done.returncode == 0, done.stderr
    assert (
        "uv pip install --quiet --compile-bytecode --python .venv/bin/python --constraint "
        "requirements.lock --override tools/notebooks/system-torch.txt --editable .[quant,s3]"
    ) in (folder / "called").read_text().splitlines()
    dropped = (ROOT / "tools/notebooks/system-torch.txt").read_text().splitlines()
    needs = [Requirement(line) for line in dropped if not line.startswith("#")]
    assert {need.name for need in needs} == {"torch", "torchvision"}
    assert not any(need.marker.evaluate() for need in needs)
    dry = make(folder, "--dry-run", "--always-make", "setup", "TORCH_BACKEND=system")
    assert "-m venv --system-site-packages .venv" in dry.stdout
    assert (
        "--ignore-installed uv" in dry.stdout
    )  # else pip counts the system's, without its program


@pytest.mark.parametrize(
    ("extras", "unknown"),
    [
        ("serv", "serv"),
        ("quant,serv", "serv"),
        ("quant s3", "quant s3"),
        ("quant,", ""),
        ("Serve", "Serve"),
    ],
)
def test_an_extra_that_does_not_exist_is_refused_before_anything_is_installed(
    tmp_path, extras, unknown
):
    folder = checkout(tmp_path / "mine")
    (folder / f".venv/runtime-{extras}").touch()  # as a former Makefile left it
    done = make(folder, "setup", f"EXTRAS={extras}")
    assert done.returncode == 2
    assert not (folder / "called").exists()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = " ".join(project["optional-dependencies"])
    first, second = done.stderr.splitlines()[:2]
    assert first == f'EXTRAS: pyproject.toml has no extra "{unknown}". It has: {names}.'
    assert second.endswith("make setup EXTRAS=quant,s3")
    assert "Installing" not in done.stdout


def test_extras_in_a_dry_run_and_in_the_environment(tmp_path, monkeypatch):
    folder = checkout(tmp_path / "mine")
    dry = make(folder, "--dry-run", "setup", "EXTRAS=serve")
    assert dry.returncode == 0, dry.stderr
    assert "--editable '.[serve]'" in dry.stdout
    assert not (folder / "called").exists()
    assert "EXTRAS" not in make(folder, "--dry-run", "setup").stdout
    monkeypatch.setenv("EXTRAS", "serv")
    assert 'has no extra "serv"' in make(folder, "setup").stderr
