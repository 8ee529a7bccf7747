"""What an interrupted run has done is used again only by the code that did it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from abo_vqa.core.config import load_config
from abo_vqa.core.paths import ADAPTER
from abo_vqa.core.tables import read_table
from abo_vqa.models.answering import adhoc, journal, multiple_choice
from abo_vqa.models.answering.baseline import BaselineJob
from abo_vqa.models.answering.finetuned import finetuned_folder
from abo_vqa.models.embeddings import build
from abo_vqa.training import run
from tests.support import workspaces


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(tmp_path_factory.mktemp("project"), "blip", images=2, broken=0)
    folder = root / ADAPTER
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    save_file({"query.lora_A.weight": torch.ones(1)}, folder / "adapter_model.safetensors")
    return root


def table():
    return read_table("data/test.csv")


def asked(name: str, monkeypatch) -> str:
    """The key of the journal of `abo-vqa ask --table`."""
    keys = []
    monkeypatch.setattr(adhoc, "scratch", lambda _, key: keys.append(key))
    images = SimpleNamespace(states=lambda _: [])
    with pytest.raises(AttributeError):  # there is no folder to go on in
        adhoc.answer_table(name, load_config(), ADAPTER, table(), images)
    return keys[0]


def chosen(name: str, monkeypatch) -> str:
    """The key of the journal of `abo-vqa choose`."""
    keys = []
    monkeypatch.setattr(multiple_choice, "scratch", lambda _, key: keys.append(key))
    rows = table().assign(choices=[["red", "blue"]] * len(table()))
    choice_set = SimpleNamespace(rows=rows, files=())
    with pytest.raises(AttributeError):
        multiple_choice.answer_choices(choice_set, name, ADAPTER, load_config())
    return keys[0]


KEYS = {
    "embed": ("embed", lambda _: build.embedding_key(load_config(), [], {})),
    "finetune": ("finetune", lambda _: run.training_key(load_config(), SimpleNamespace(meta={}))),
    "baseline": ("baseline", lambda _: BaselineJob.of("blip", load_config(), table()).folder),
    "predict": ("predict", lambda _: finetuned_folder(load_config(), table())),
    "ask": ("baseline", lambda patch: asked("blip", patch)),
    "ask finetuned": ("predict", lambda patch: asked("finetuned", patch)),
    "choose": ("baseline", lambda patch: chosen("blip", patch)),
    "choose finetuned": ("predict", lambda patch: chosen("finetuned", patch)),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_changes_with_the_code_of_its_stage(name: str, project: Path, monkeypatch) -> None:
    monkeypatch.chdir(project)
    stage, key = KEYS[name]
    changed: set[str] = set()
    for module in (journal, build, run):
        monkeypatch.setattr(module, "stage_code", lambda stage: {"file.py": stage in changed})
    before = key(monkeypatch)
    changed |= {other for other, _ in KEYS.values()} - {stage}
    assert key(monkeypatch) == before
    changed.add(stage)
    assert key(monkeypatch) != before
