"""A checkout in small: tiny models of every family, an archive, git and DVC."""

import gzip
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from abo_vqa.commands.doctor.findings import Checkout, examine
from abo_vqa.core import nvidia
from abo_vqa.core.config import load_config
from tests.support import archives, workspaces


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(
        tmp_path_factory.mktemp("made") / "checkout", "blip", "blip2", "clip", "llava", "vilt"
    )
    profile = root / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings["scorers"]["bertscore"]["path"] = settings["scorers"]["bartscore"]["path"] = (
        "models/blip"
    )
    profile.write_text(yaml.safe_dump(settings))
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("threads: 2 ", "threads: 1 "))
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    raw = root / "data/raw/sample"
    listings = archives.lines([archives.listing("one")])
    (raw / "listings/metadata/listings_0.json.gz").write_bytes(gzip.compress(listings))
    (raw / "images/metadata/images.csv").write_text(archives.images_csv({"one": "00/00000000.jpg"}))
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    return root


@pytest.fixture
def checkout(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the checkout as the current folder."""
    root = tmp_path / "checkout"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def look(checkout: Path):
    """look(check, profile="abo", compute={…}): the findings of a check by their names."""

    def found(check, profile="sample", names=(), **sections):
        file = checkout / "params.yaml"
        params = yaml.safe_load(file.read_text())
        params["profile"] = profile
        for section, values in sections.items():
            params[section] |= values
        file.write_text(yaml.safe_dump(params))
        case = Checkout(checkout, load_config(), names=names)
        return {finding.name: finding for finding in examine("check", check, case)}

    return found


@pytest.fixture
def at(checkout):
    """at("vilt", path=…): other settings of a model in the sample's profile."""
    profile = checkout / "conf/profiles/sample.yaml"

    def change(name, **changed):
        settings = yaml.safe_load(profile.read_text())
        settings["models"][name] |= changed
        profile.write_text(yaml.safe_dump(settings))

    return change


@pytest.fixture
def broken_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A card that the system shows, with a driver that torch can't use."""
    import torch

    (tmp_path / "nvidia0").touch()
    (tmp_path / "version").write_text("NVRM version: NVIDIA Kernel Module  535.104.05  Sat\n")
    monkeypatch.setattr(nvidia, "NODES", (str(tmp_path / "nvidia0"),))
    monkeypatch.setattr(nvidia, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
