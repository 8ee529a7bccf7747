"""A copied profile still credits the authors of the one that it was copied from."""

import shutil
from pathlib import Path

import pytest
import yaml

from abo_vqa.core.config import load_config
from abo_vqa.core.credits import credit_warning
from tests.support import ROOT


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    """The repository's profiles, and "mine", a copy of the real one."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    mine = yaml.safe_load((tmp_path / "conf/profiles/abo.yaml").read_text())
    mine["data"]["raw"] = "data/raw/mine"
    (tmp_path / "conf/profiles/mine.yaml").write_text(yaml.safe_dump(mine))
    return tmp_path / "conf/profiles"


def warned(profile):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | {"profile": profile}))
    return credit_warning(load_config())


def test_a_copied_profile(profiles):
    assert "are those of abo.yaml" in warned("mine")


def test_credits_of_ones_own(profiles):
    mine = yaml.safe_load((profiles / "mine.yaml").read_text())
    mine["data"]["attribution"] = "Chairs by Jane."
    (profiles / "mine.yaml").write_text(yaml.safe_dump(mine))
    assert warned("mine") == ""


def test_two_profiles_of_one_catalogue(profiles):
    mine = yaml.safe_load((profiles / "mine.yaml").read_text())
    mine["data"]["raw"] = "data/raw/abo"
    (profiles / "mine.yaml").write_text(yaml.safe_dump(mine))
    assert warned("mine") == ""


@pytest.mark.parametrize("profile", ["abo", "sample"])
def test_a_broken_profile_of_somebody_else(profiles, profile):
    (profiles / "mine.yaml").write_text("data: [")
    assert warned(profile) == ""
