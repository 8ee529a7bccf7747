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
from abo_vqa.models.answering.finetuned import FinetunedJob
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


def job(name: str) -> FinetunedJob:
    return FinetunedJob.of(name, load_config(), table())


KEYS = {
    "embed": ("embed", lambda _: build.embedding_key(load_config(), [], {})),
    "vectors": ("vectors", lambda _: build.embedding_key(load_config(), [], {}, "vectors")),
    "finetune": ("finetune", lambda _: run.training_key(load_config(), SimpleNamespace(meta={}))),
    "baseline": ("baseline", lambda _: BaselineJob.of("blip", load_config(), table()).folder),
    "predict": ("predict", lambda _: job("finetuned").folder),
    "predict ranked": ("predict", lambda _: job("finetuned-ranked").folder),
    "ask": ("baseline", lambda patch: asked("blip", patch)),
    "ask finetuned": ("predict", lambda patch: asked("finetuned", patch)),
    "ask ranked": ("predict", lambda patch: asked("finetuned-ranked", patch)),
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


def candidates(answers: str) -> None:
    Path("data/train.csv").write_text(f"image_path,question,answer\n00/a.jpg,What?,{answers}\n")


@pytest.mark.parametrize("name", ["predict ranked", "ask ranked"])
def test_a_ranked_journal_is_that_of_its_candidates(name: str, project: Path, monkeypatch) -> None:
    """Of train's answers, of how many are scored, and which."""
    monkeypatch.chdir(project)
    _, key = KEYS[name]
    _, free = KEYS[name.replace(" ranked", " finetuned").replace("predict finetuned", "predict")]
    before, free_before = key(monkeypatch), free(monkeypatch)
    train, params = Path("data/train.csv").read_text(), Path("params.yaml").read_text()
    keys = {before}
    try:
        candidates("mauve")
        keys.add(key(monkeypatch))
        for old, new in (("shortlist: first_token", "shortlist: frequent"),
                         ("candidates: 128", "candidates: 12")):  # fmt: skip
            assert old in params
            Path("params.yaml").write_text(params.replace(old, new))
            keys.add(key(monkeypatch))
        assert free(monkeypatch) == free_before
    finally:
        Path("data/train.csv").write_text(train)
        Path("params.yaml").write_text(params)
    assert len(keys) == 4
    assert key(monkeypatch) == before
