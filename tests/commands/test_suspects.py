"""`abo-vqa suspects`: each answer is doubted by a model that never saw its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.tables import read_table
from abo_vqa.data.archive import open_archive
from abo_vqa.data.normalise import normalise
from abo_vqa.models.answering.margins import MarginModel
from abo_vqa.models.answering.multiple_choice import pack_choices
from abo_vqa.models.registry import load_model
from abo_vqa.training import suspicion
from tests.support import training as project

OUT = Path("data/suspects.csv")
FOLDS = ["suspects", "--folds", "2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.make(tmp_path_factory.mktemp("suspects"))


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = project.copy(made, tmp_path / "work")
    monkeypatch.chdir(root)
    return root


def test_a_margin_is_the_difference_of_two_likelihoods(here: Path) -> None:
    model = load_model("blip", load_config())
    with open_archive("data/raw/sample") as archive:
        images = [archive.image("00/00000001.jpg")]
    [answer] = MarginModel(model).answer(images, [pack_choices("what color is it?", ["wood"])])
    [own] = model.answer(images, ["what color is it?"])
    assert answer.text == own.text
    encoded = model.encode_images(images)
    [[mine, given]] = model.score_choices(encoded, [0], ["what color is it?"], [[own.text, "wood"]])
    assert answer.confidence == pytest.approx(mine - given, abs=1e-4)


def test_the_list_is_the_same_after_an_interruption(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[set[str]] = []
    train, answer = suspicion.train, suspicion.answer_with_margins

    def watched(config, folder, *, training_rows):
        trained.append(set(read_table(training_rows)["image_path"]))
        return train(config, folder, training_rows=training_rows)

    def full(config, rows, adapter):
        if len(trained) > 1:
            raise OSError(28, "No space left on device", str(adapter))
        return answer(config, rows, adapter)

    monkeypatch.setattr(suspicion, "train", watched)
    with monkeypatch.context() as patch:
        patch.setattr(suspicion, "answer_with_margins", full)
        assert main(FOLDS) != 0
    assert not OUT.exists()
    assert main(FOLDS) == 0  # both adapters are there
    assert len(trained) == 2
    table, listed = read_table("data/vqa.csv"), read_table(OUT)
    assert trained[0] | trained[1] == set(table["image_path"])
    assert not trained[0] & trained[1]
    # All but those about the image that doesn't decode, the most suspicious first.
    assert len(listed) == len(table) - 3 == 33
    assert "3 couldn't be judged" in capsys.readouterr().out
    margins = listed["margin"].astype(float).to_numpy()
    assert (np.diff(margins) <= 0).all()
    agrees = listed["own_answer"].map(normalise) == listed["answer"].map(normalise)
    assert np.allclose(margins[agrees], 0, atol=1e-3)
    assert not list(Path(".cache/abo-vqa").glob("suspects*/[!.]*/*"))
    resumed = OUT.read_bytes()
    assert main(FOLDS) == 0
    assert OUT.read_bytes() == resumed
    assert len(trained) == 4


def test_the_list_becomes_a_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FOLDS, "--top", "5", "--out", "worst.csv"]) == 0
    assert read_table("worst.csv")["drawn"].tolist() == ["suspicious"] * 5
    command = capsys.readouterr().out.partition("abo-vqa generate ")[2].splitlines()[0].split()
    assert main(["generate", *command]) == 0
    assert "5 pairs to check" in capsys.readouterr().out
    assert Path("page.html").read_text().count('"suspicious"') == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "1"], "--folds 1: at least 2"),
        (["--folds", "40"], "form 12 group(s) of look-alikes, fewer than the 40 parts"),
        (["--top", "0"], "--top 0: at least 1"),
        (["--out", "data/vqa.csv"], "would be overwritten"),
    ],
)
def test_mistakes(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    before = pd.read_csv("data/vqa.csv")
    assert main(["suspects", *options]) == 2
    assert message in capsys.readouterr().err
    assert pd.read_csv("data/vqa.csv").equals(before)


def test_missing_vision_outputs_are_noticed_before_a_part_is_announced(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "data/embeddings/blip/vectors.npy").unlink()
    assert main(FOLDS) == 2
    err = capsys.readouterr().err
    assert (
        "no vision outputs in data/embeddings/blip; run the stage `embed`: dvc repro embed@" in err
    )
    assert "part 1" not in err
