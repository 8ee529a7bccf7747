"""Answers chosen among train's: the stages `predict`, `inputs`, `baseline`, and `abo-vqa ask`."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import BlipForQuestionAnswering

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import ADAPTER
from abo_vqa.core.tables import read_table
from abo_vqa.models.answering.dependencies import inputs_of
from abo_vqa.models.answering.finetuned import load_by_name
from abo_vqa.models.answering.ranked import RankedModel
from abo_vqa.stages import baseline, predict
from tests.support import workspaces
from tests.support.stages import run_stage

FREE, RANKED = (Path(f"reports/finetuned/{name}.csv") for name in ("predictions", "ranked"))
BLIP = Path("reports/baselines/blip/predictions.csv")
PROFILE, PARAMS, TRAIN = (
    Path("conf/profiles/sample.yaml"), Path("params.yaml"), Path("data/train.csv"),
)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(tmp_path_factory.mktemp("project"), "blip", "vilt", images=8)
    base = BlipForQuestionAnswering.from_pretrained(root / "models/blip")
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["query", "value"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    adapted.save_pretrained(root / ADAPTER)
    file = root / ADAPTER / "adapter_config.json"
    config = json.loads(file.read_text()) | {"base_model_name_or_path": "models/blip"}
    file.write_text(json.dumps(config))
    workspaces.pictures(1)[0].save(root / "picture.png")
    return root


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch):
    """The project; its settings and train split are as they were after each test."""
    monkeypatch.chdir(project)
    before = {file: file.read_bytes() for file in (PROFILE, PARAMS, TRAIN)}
    yield project
    for file, content in before.items():
        file.write_bytes(content)


def train_answers() -> set[str]:
    return set(read_table(TRAIN)["answer"])


def rank(**models: str) -> None:
    """Set models' decoding."""
    profile = yaml.safe_load(PROFILE.read_text())
    for name, decoding in models.items():
        profile["models"][name]["decoding"] = decoding
    PROFILE.write_text(yaml.safe_dump(profile))


def test_predict_answers_in_both_ways(here: Path) -> None:
    config = load_config()
    summary = run_stage(predict, config)
    free, ranked = FREE.read_bytes(), read_table(RANKED)
    assert ranked["row_id"].tolist() == read_table("data/test.csv")["row_id"].tolist()
    answered = ranked["error"] == ""
    assert set(ranked.loc[answered, "prediction"]) <= train_answers()
    assert ranked.loc[answered, "confidence"].astype(float).between(0, 1).all()
    assert summary.metrics["ranked_failed"] == (~answered).sum()
    assert not set(read_table(FREE)["prediction"]) <= train_answers()
    assert not list(Path(".cache/abo-vqa/finetuned-ranked").iterdir())
    off = config.ranking.model_copy(update={"finetuned": False})
    run_stage(predict, config.model_copy(update={"ranking": off}))
    assert FREE.read_bytes() == free
    assert not RANKED.exists()  # a table of other settings would be evaluated


def test_predict_resumes_to_the_same_bytes(here: Path) -> None:
    """As after a kill between two batches of the ranked answers."""
    run_stage(predict, load_config())
    whole = RANKED.read_bytes()
    predict.run(load_config())  # its journals stay
    [journal] = Path(".cache/abo-vqa/finetuned-ranked").glob("*/answers-0.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0][:-9])
    run_stage(predict, load_config())
    assert RANKED.read_bytes() == whole


def test_a_baseline_ranks_if_its_settings_say_so(here: Path) -> None:
    run_stage(baseline, load_config(), model="blip")
    free = read_table(BLIP)
    rank(blip="ranked", vilt="ranked")
    for name in ("blip", "vilt"):
        summary = run_stage(baseline, load_config(), model=name)
        table = read_table(BLIP.parent.parent / name / BLIP.name)
        assert set(table.loc[table["error"] == "", "prediction"]) <= train_answers()
        count = len(train_answers())
        assert summary.params["decoding"] == (
            f"likeliest of {count} of {count} train answers (first_token)"
        )
    assert read_table(BLIP)["prediction"].tolist() != free["prediction"].tolist()
    assert read_table(BLIP)["error"].tolist() == free["error"].tolist()


def test_a_ranking_baseline_depends_on_its_candidates(here: Path) -> None:
    """And no other one does."""
    rank(vilt="ranked")
    inputs = [inputs_of(name, load_config()) for name in ("vilt", "blip")]
    assert "candidates" in inputs[0]
    assert "candidates" not in inputs[1]
    table = read_table(TRAIN)
    table.loc[0, "answer"] = "mauve"
    table.to_csv(TRAIN, index=False)
    changed = [inputs_of(name, load_config()) for name in ("vilt", "blip")]
    assert changed[0]["candidates"] != inputs[0]["candidates"]
    assert changed[1] == inputs[1]
    PARAMS.write_text(PARAMS.read_text().replace("candidates: 128", "candidates: 3"))
    assert inputs_of("vilt", load_config())["candidates"] != changed[0]["candidates"]


def test_an_answer_that_is_too_long_is_no_candidate(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would cost every row its answer."""
    table = read_table(TRAIN)
    table.loc[0, "answer"] = "lamp " * 70
    table.to_csv(TRAIN, index=False)
    model = load_by_name("finetuned-ranked", load_config())
    assert isinstance(model, RankedModel)
    assert model.question_errors(["what?"]) == [""]
    assert not any("lamp lamp" in text for text in model.candidates.texts)
    reason = "the question or a choice is too long: 71 tokens, room for 64"
    assert f"train answers can't be ranked: {reason}" in capsys.readouterr().err
    table["answer"] = "lamp " * 70
    table.to_csv(TRAIN, index=False)
    with pytest.raises(UserError, match=f"none of the 1 train answers can be ranked: {reason}"):
        load_by_name("finetuned-ranked", load_config())


@pytest.mark.parametrize("model", ["finetuned-ranked", "vilt"])
def test_ask_one_question(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    rank(vilt="ranked")
    assert main(["ask", "--model", model, "--image", "picture.png", "--question", "what?"]) == 0
    assert capsys.readouterr().out.strip() in train_answers()
    choices = ["--choices", "red", "blue"]  # given ones go first
    ask = ["ask", "--model", model, "--image", "picture.png", "--question", "what?", *choices]
    assert main(ask) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert {line.split()[1] for line in lines} == {"red", "blue"}


def test_without_train_there_is_nothing_to_choose_from(here: Path) -> None:
    TRAIN.write_text("image_path,question,answer\n00/a.jpg,what?, \n")
    with pytest.raises(UserError, match=r"train\.csv has no answer .*dvc repro split"):
        load_by_name("finetuned-ranked", load_config())


def test_clip_refuses_at_once(here: Path) -> None:
    rank(clip="ranked", vilt="guessed")
    with pytest.raises(UserError) as refused:
        load_config()
    message = str(refused.value)
    assert "models.clip.decoding: found 'ranked', and the family clip doesn't take this" in message
    assert "models.vilt.decoding: found 'guessed'" in message
