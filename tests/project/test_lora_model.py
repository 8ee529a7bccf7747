"""Another `lora.model` changes what is trained, and no baseline."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests.support import ROOT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline's description in a repository of its own."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with Repo.init(str(tmp_path)):
        pass
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stages(model: str) -> dict[str, dict]:
    """Each stage as DVC resolves it: command, dependencies, settings, outputs."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["lora"]["model"] = model
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with Repo(".") as repo:
        return {
            stage.addressing: {
                "command": stage.cmd,
                "dependencies": sorted(str(dep) for dep in stage.deps),
                "settings": sorted(p for dep in stage.deps for p in getattr(dep, "params", ())),
                "outputs": sorted(str(out) for out in stage.outs),
            }
            for stage in repo.index.stages
        }


def test_no_baseline_is_asked_again(checkout: Path) -> None:
    blip, llava = stages("blip"), stages("llava")
    assert set(llava) - set(blip) == {"embed@llava"}
    assert set(blip) <= set(llava)  # embed@blip stays for its baseline
    changed = {name for name in blip if blip[name] != llava[name]}
    assert changed == {"finetune", "predict"}
    assert "data/embeddings/blip" in blip["finetune"]["dependencies"]
    for name in changed:
        assert "data/embeddings/llava" in llava[name]["dependencies"]
        assert "models.llava" in llava[name]["settings"]
        assert "models.blip" not in llava[name]["settings"]
    assert llava["embed@llava"]["outputs"] == ["data/embeddings/llava"]
    assert "data/embeddings/llava" not in llava["inputs"]["dependencies"]
