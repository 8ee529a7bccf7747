"""A stage started with a Python that won't do: the checkout's own takes over, or two lines say why.

The bare Pythons are real: one without site-packages, and whatever older versions the machine has.
"""

import glob
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from abo_vqa.core import interpreter
from tests.support import ROOT

OLD = sorted(
    {
        path
        for version in ("2.7", "3.6", "3.8", "3.10")
        for path in (
            shutil.which(f"python{version}") or "",
            *glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python"))[:1],  # noqa: PTH111, PTH207
        )
        if "pyenv/shims" not in path and path
    }
)


@pytest.fixture
def checkout(tmp_path):
    """Sources without an environment beside them."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def start(checkout, *python, **environment):
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "DVC_ROOT", interpreter.REEXECUTED)
    }
    return subprocess.run(
        [*python, "src/abo_vqa", "split", "--help"], cwd=checkout, env=clean | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def bare():
    """A Python that finds no installed package."""
    return [str(Path(sys.executable).resolve()), "-S", "-E"]


def link(checkout, folder=".venv"):
    """Make this test's own Python the environment of a checkout."""
    python = checkout / folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


def test_packages_are_the_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    distributions = packages_distributions()

    def plain(name):
        return name.lower().replace("_", "-")

    declared = {plain(line.split(">")[0].split("<")[0]) for line in project["dependencies"]}
    imported = {}
    for name in interpreter.PACKAGES:
        owners = distributions[name.partition(".")[0]]
        imported[name] = {plain(owner) for owner in owners} & declared
    assert all(imported.values()), imported
    assert set().union(*imported.values()) == declared


def test_bare_python_is_told_what_to_do(checkout):
    done = start(checkout, *bare())
    assert done.returncode == 2
    assert "lacks pandas, torch, " in done.stderr
    assert "source .venv/bin/activate" in done.stderr
    assert "make repro" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_in_a_stage_it_says_how_to_get_the_outputs_back(checkout):
    assert "dvc checkout" in start(checkout, *bare(), DVC_STAGE="curate").stderr


@pytest.mark.parametrize("python", OLD or [pytest.param("", marks=pytest.mark.skip("none here"))])
def test_old_python_is_told_its_version(checkout, python):
    done = start(checkout, python)
    assert done.returncode == 2
    assert "3.11 or newer is needed" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("python", [bare(), *[[old] for old in OLD]], ids=lambda p: p[0])
def test_environment_of_the_checkout_takes_over(checkout, python):
    environment = link(checkout)
    done = start(checkout, *python)
    assert done.returncode == 0, done.stderr
    assert "usage: abo-vqa split" in done.stdout
    assert f"continuing with {environment}" in done.stderr


def test_temporary_workspace_uses_the_main_checkouts_environment(checkout, tmp_path_factory):
    main = tmp_path_factory.mktemp("main")
    link(main)
    done = start(checkout, *bare(), DVC_ROOT=str(main))
    assert done.returncode == 0, done.stderr


def test_environment_that_lacks_packages_too_ends_with_the_message(checkout):
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{bare()[0]}" -S "$@"\n')
    python.chmod(0o755)
    done = start(checkout, *bare())
    assert done.returncode == 2
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr


def test_installed_command_names_a_package_that_is_gone(checkout):
    """A dependency added since the environment was made, met while a command runs."""
    code = (
        "import sys; sys.meta_path.insert(0, type('Gone', (), {'find_spec': staticmethod("
        "lambda name, *_: (_ for _ in ()).throw(ModuleNotFoundError(name=name))"
        " if name.split('.')[0] == 'pandas' else None)}));"
        "from abo_vqa.cli import main; sys.exit(main(['split', '--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "lacks pandas" in done.stderr
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr
