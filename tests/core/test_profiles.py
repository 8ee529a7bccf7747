"""Profiles that are another one with some changes."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.profiles import COMPLETED, base_profile, read_profile
from tests.support import ROOT, workspaces

T4 = Path("conf/profiles/t4.yaml")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    workspaces.copy_params(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, text):
    Path(f"conf/profiles/{name}.yaml").write_text(text)


def choose(profile):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("profile: sample", f"profile: {profile}"))


def flat(value, key=""):
    if not isinstance(value, dict):
        return {key: value}
    return {k: v for name in value for k, v in flat(value[name], f"{key}.{name}").items()}


def test_t4_is_abo_but_for_its_changes(workspace):
    abo, t4 = (flat(read_profile(T4.with_name(f"{name}.yaml"))) for name in ("abo", "t4"))
    changes = flat(yaml.safe_load(T4.read_text())["changes"])
    differing = {key: t4.get(key) for key in abo.keys() | t4.keys() if abo.get(key) != t4.get(key)}
    assert differing.items() <= changes.items()
    assert {key for key in changes.keys() - differing.keys() if "batch_sizes" not in key} == set()
    choose("t4")
    config = load_config()
    assert (config.compute.dtype, config.models.llava.quantize) == ("float16", "8bit")
    assert config.data.raw == Path("data/raw/abo")
    assert config.models.llava.prompt == "<image> Question: {question} Answer:"
    assert config.lora.batch_size * config.lora.accumulate == 8  # the study's


def test_dvc_finds_the_archives_and_weights_of_t4_without_a_download():
    assert (ROOT / "data/raw/t4").readlink() == Path("abo")
    assert (ROOT / "models/t4").is_dir()


def test_committed_profiles_are_complete(workspace, capsys):
    before = T4.read_bytes()
    assert main(["profiles"]) == 0
    assert capsys.readouterr().out == "conf/profiles/t4.yaml is up to date\n"
    assert T4.read_bytes() == before


def test_a_changed_base_is_noticed_and_taken_over(workspace, capsys):
    abo = T4.with_name("abo.yaml")
    abo.write_text(abo.read_text().replace("cap: 5000", "cap: 4000"))
    choose("t4")
    with pytest.raises(UserError, match=r"defaults\.curate\.cap is 5000 there, not 4000") as told:
        load_config()
    assert "`abo-vqa profiles` writes it anew" in str(told.value)
    assert main(["profiles"]) == 0
    assert load_config().curate.cap == 4000
    own = T4.read_text().partition(COMPLETED)[0]
    assert own.startswith("# The study on one or two T4")  # comments stay
    assert "quantize: 8bit}  # 14.1 GB" in own


def test_a_profile_of_ones_own_needs_only_its_changes(workspace):
    write(
        "mine", "extends: sample\nchanges: {defaults: {lora: {epochs: 2}}, batch_sizes: {blip: 4}}"
    )
    choose("mine")
    with pytest.raises(UserError, match=r"isn't that with its changes: data is None"):
        load_config()
    assert main(["profiles"]) == 0
    config = load_config()
    assert (config.lora.epochs, config.models.blip.batch_size) == (2, 4)
    assert config.models.clip.batch_size == 256
    assert base_profile(Path("conf/profiles/mine.yaml")) == "sample"
    assert base_profile(Path("conf/profiles/abo.yaml")) == "abo"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("extends: abbo\nchanges: {}", "extends is 'abbo', which is no other profile; there are"),
        ("extends: mine\nchanges: {}", "extends is 'mine', which is no other profile"),
        ("changes: {}", "extends is None"),
        ("extends: abo", "changes is None; it holds what differs from abo"),
        ("extends: abo\nchanges: [1]", r"changes is \[1\]"),
        ("extends: t4\nchanges: {}", "extends t4, which extends abo: name that one"),
        ("extends: abo\nchanges: {}\nmodels: {}", "Move what it changes under `changes`"),
    ],
)
def test_what_is_wrong_is_said(workspace, text, reason, capsys):
    write("mine", text)
    assert main(["profiles"]) == 2
    assert re.search(reason, capsys.readouterr().err)


@pytest.mark.parametrize("profile", ["sample", "abo", "t4"])
def test_dvc_finds_every_setting_that_stages_depend_on(workspace, profile):
    """In the profile's own file: DVC knows nothing of `extends`."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, workspace)
    choose(profile)
    (workspace / "data").mkdir()
    with Repo.init(no_scm=True) as repo:
        needed = [
            dep
            for stage in repo.index.stages
            for dep in stage.deps
            if isinstance(dep, ParamsDependency)
        ]
        assert any(dep.fs_path.endswith(f"{profile}.yaml") for dep in needed)
        missing = {
            (dep.fs_path, key) for dep in needed for key in {*dep.params} - {*dep.read_params()}
        }
    assert missing == set()
