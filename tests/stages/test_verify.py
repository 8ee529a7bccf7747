"""The stage `verify` with a tiny model and the blind predictor, on real files."""

from __future__ import annotations

import shutil
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from abo_vqa.annotate.verification.blind_accuracy import BlindMeasure
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.summary import Summary
from abo_vqa.core.tables import read_table
from abo_vqa.evaluation.aliases import alias_match
from abo_vqa.evaluation.intervals import clustered_wilson_interval
from abo_vqa.models.answering import baseline as baselines
from abo_vqa.stages import baseline, opinions, verify
from tests.support import workspaces

REJECTS = """image_path,question,answer,reason
00/00000000.jpg,what is it?,zebra,review
00/00000000.jpg,what is it?,two words,multi_word
00/00000001.jpg,what else is it?,red,surplus
00/00000001.jpg,,,blocked
"""


def matches(prediction: str, reference: str) -> float:
    return alias_match(prediction, reference, {})


def interval(values: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    return clustered_wilson_interval(values, images, 0.95)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(
        tmp_path_factory.mktemp("verify"), "blip", "vilt", images=10, broken=1
    )
    (root / "data/vqa.csv").rename(root / "data/generated.csv")
    (root / "data/reviewed.csv").write_text("image_path,question,answer,wrong,drawn\n")
    (root / "data/rejects.csv").write_text(REJECTS)
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")


def run(config: Config) -> Summary:
    """Both stages."""
    asked = opinions.run(config)
    summary = verify.run(config)
    asked.cleanup()
    return summary


def settings(**verify: object) -> Config:
    config = load_config()
    return config.model_copy(update={"verify": config.verify.model_copy(update=verify)})


def test_opinions_are_columns_and_every_row_stays(here: None) -> None:
    before = read_table("data/generated.csv")
    summary = run(settings())
    table = read_table("data/vqa.csv")
    assert table[list(before)].equals(before)
    assert list(table)[len(before.columns) :] == ["answer_blip", "answer_blind", "agreement"]
    # The model's answers are those that it gives as a baseline.
    baseline.run(settings(), model="blip")
    answers = read_table("reports/baselines/blip/predictions.csv").astype({"row_id": int})
    expected = answers.sort_values("row_id")["prediction"].tolist()
    assert table["answer_blip"].tolist() == expected
    # Nobody could look at the broken image: no opinion, and nothing held against its pairs.
    broken = table["image_path"] == "00/00000009.jpg"
    assert set(table[broken]["agreement"]) == {""}
    assert set(table[~broken]["agreement"]) <= {"0", "1"}
    record = read_json("data/verification.json")
    assert record["verifiers"]["blip"]["failed"] == broken.sum() == 3
    sets = {"none": before}
    blind = BlindMeasure.of(settings(models=("blind",)), matches, interval, sets)
    right = table["answer_blind"] == table["answer"]
    measured = ("blind_accuracy", "blind_interval")
    whole = record["filters"]["none"]
    assert {name: whole[name] for name in measured} == blind.measure(before)
    # The predictor is fitted anew on what is left: none of its first answers would be right.
    rest = record["filters"]["blind is wrong"]
    assert rest["pairs"] == (~right).sum()
    assert {name: rest[name] for name in measured} == blind.measure(before[~right])
    # Before: with what people rejected, then with what the quality gate did.
    earlier = [
        record["filters"][name]["pairs"] for name in ("before reviews", "before quality gate")
    ]
    assert earlier == [31, 32]
    assert summary.metrics["filters/before_quality_gate/pairs"] == 32
    assert summary.metrics["filters/none/pairs"] == len(table) == 30
    assert not list(Path(".cache/abo-vqa").glob("opinions*/*/answers*"))


def test_pairs_without_agreement_are_left_out(here: None) -> None:
    summary = run(settings(models=("blip",), min_agreement=1.0))
    table = read_table("data/vqa.csv")
    assert set(table["agreement"]) <= {"1", ""}
    assert 3 <= len(table) < 30
    record = read_json("data/verification.json")
    assert (record["kept"], record["filtered_by"]) == (len(table), {"min_agreement": 1.0})
    # The model that filtered is a baseline, too.
    assert "warning: blip, finetuned: verify.min_agreement keeps" in summary.message


def test_people_and_the_gate(here: None) -> None:
    """What people rejected is answered, too, but isn't in the output; it counts if it passes."""
    run(settings(models=("blip",)))
    answers = read_table("data/vqa.csv")
    agreed, other = answers[answers["answer_blip"] != ""].iloc[[0, 1]].to_dict("records")
    reviewed = [
        (agreed["image_path"], agreed["question"], agreed["answer_blip"], "0"),  # passes
        (other["image_path"], other["question"], "zzz", "1"),  # corrected since
        ("00/00000000.jpg", "what is it?", "zebra", "1"),  # rejected: no question of the table
        ("00/00000009.jpg", "what was it?", "lamp", "0.5"),  # nobody can look at the image
    ]
    lines = [f"{row},random" for row in map(",".join, reviewed)]
    header = "image_path,question,answer,wrong,drawn"
    Path("data/reviewed.csv").write_text("\n".join([header, *lines]) + "\n")
    run(settings(models=("blip",)))
    record = read_json("data/verification.json")["reviews"]
    assert (record["pairs"], record["left_out"]) == (4, 0)  # no gate
    assert read_table("data/vqa.csv").equals(answers)
    summary = run(settings(models=("blip", "blind"), min_agreement=1.0))
    table = read_table("data/vqa.csv")
    assert not set(table["question"]) & {"what is it?", "what was it?"}
    assert "3 of the" in summary.message
    assert "kept pairs were answered by no model" in summary.message
    record = read_json("data/verification.json")
    assert record["filters"]["answered"]["pairs"] == 27
    # The column `reviewed` is missing here, so whatever the filter keeps of these images counts.
    kept, wrong = Counter(table["image_path"]), Counter(row[0] for row in reviewed if row[3] != "0")
    open_pairs = sum(max(0, kept[image] - wrong[image]) for image in {row[0] for row in reviewed})
    assert record["reviews"] == {
        "pairs": 2,
        "left_out": 2,
        "skipped": open_pairs,
        "images": [
            {"pairs": 1, "wrong": 0.0, "images": 1},
            {"pairs": 1, "wrong": 0.5, "images": 1},
        ],
    }
    # Suspicious pairs are counted apart from the random ones, and the rows that nobody reviewed.
    lines[2:] = [line.replace("random", "suspicious") for line in lines[2:]]
    Path("data/reviewed.csv").write_text("\n".join([header, *lines]) + "\n")
    run(settings(models=("blip", "blind"), min_agreement=1.0))
    record = read_json("data/verification.json")["reviews"]
    assert (record["pairs"], record["left_out"]) == (1, 1)
    assert record["suspicious"] == {
        "pairs": 1, "left_out": 1, "wrong": 0.5, "unreviewed": len(table),
    }  # fmt: skip
    # The blind predictor has learned nothing from what people rejected.
    before = table["answer_blind"].tolist()
    Path("data/reviewed.csv").write_text(header + "\n")
    run(settings(models=("blip", "blind"), min_agreement=1.0))
    assert read_table("data/vqa.csv")["answer_blind"].tolist() == before


def test_nobody_asked_is_the_table_as_it_is(here: None) -> None:
    run(settings(models=()))
    assert Path("data/vqa.csv").read_bytes() == Path("data/generated.csv").read_bytes()
    assert read_json("data/verification.json") == {"pairs": 30, "kept": 30}


def test_an_interrupted_run_asks_for_the_rest_only(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(settings(models=("blip",)))
    expected = Path("data/vqa.csv").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space"):
        disk.setattr(opinions, "write_table", full)  # after all answers are in the journal
        run(settings(models=("blip",)))
    monkeypatch.setattr("abo_vqa.models.answering.baseline.load_model", full)
    run(settings(models=("blip",)))
    assert Path("data/vqa.csv").read_bytes() == expected


def test_filters_that_leave_nothing_are_one_message(here: None) -> None:
    table = read_table("data/generated.csv")
    table[table["image_path"] != "00/00000009.jpg"].assign(answer="zzz").to_csv(
        "data/generated.csv", index=False
    )
    with pytest.raises(UserError, match="min_agreement"):
        run(settings(models=("blip",), min_agreement=0.5))
    assert not Path("data/vqa.csv").exists()


def test_answers_that_mean_the_same_agree(here: None) -> None:
    """By the aliases and base forms of the evaluation."""
    run(settings(models=("blip",)))
    answers = read_table("data/vqa.csv")["answer_blip"]
    row = answers[answers != ""].index[0]
    table = read_table("data/generated.csv")
    table.loc[row, "answer"] = "soccerball"
    table.to_csv("data/generated.csv", index=False)
    config = settings(models=("blip",))
    run(config)
    assert read_table("data/vqa.csv")["agreement"][row] == "0"
    Path("mine.csv").write_text(f"answer,alias\nsoccerball,{answers[row]}\n")
    aliases = config.evaluate.model_copy(update={"aliases": Path("mine.csv")})
    run(config.model_copy(update={"evaluate": aliases}))
    assert read_table("data/vqa.csv")["agreement"][row] == "1"


@pytest.mark.parametrize("column", ["answer_blip", "answer_blind", "agreement"])
def test_own_columns_are_not_overwritten(
    here: None, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    table = read_table("data/generated.csv").assign(**{column: "mine"})
    table.to_csv("data/generated.csv", index=False)
    with monkeypatch.context() as patch, pytest.raises(UserError, match=rf"{column}.*Rename"):
        patch.setattr(baselines, "load_model", None)  # nobody is asked
        run(settings())
    run(settings(models=()))
    assert read_table("data/vqa.csv")[column].tolist() == ["mine"] * 30


def test_one_image_cannot_be_cross_fitted(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    read_table("data/generated.csv").head(3).to_csv("data/generated.csv", index=False)
    monkeypatch.setattr(baselines, "load_model", None)  # nobody is asked before
    with pytest.raises(UserError, match=r"fewer than two images.* Take blind out") as caught:
        run(settings())
    assert "--train" not in str(caught.value)


def test_a_model_is_gone_before_the_next_is_loaded(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what the last one held, nothing is left when the next one needs the memory."""
    loaded: list[weakref.ref[object]] = []
    released: list[int] = []
    load = baselines.load_model

    def watched(*args: object, **options: object) -> object:
        assert [ref() for ref in loaded] == [None] * len(loaded)
        assert len(released) == len(loaded)
        model = load(*args, **options)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(baselines, "load_model", watched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: released.append(1))
    config = settings(models=("blip", "vilt"))
    cpu = config.compute.model_copy(update={"device": "cpu"})
    run(config.model_copy(update={"compute": cpu}))
    assert len(loaded) == 2
