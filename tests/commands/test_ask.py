"""`abo-vqa ask`: one question, or a folder of pictures and a table."""

from pathlib import Path

import pytest

from abo_vqa.cli import main
from abo_vqa.core.tables import read_table
from tests.support import models as tiny
from tests.support import workspaces


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(tmp_path_factory.mktemp("ask"), "blip", "vilt", "clip")
    pictures = root / "pictures"
    pictures.mkdir()
    for name, picture in zip(("a.jpg", "b.png"), workspaces.pictures(2), strict=True):
        picture.save(pictures / name)
    (root / "asked.csv").write_text(
        "image_name,question,note\n"
        "a.jpg,what color is it?,x\n"
        'b.png,"is it red, or None?",None\n'
        "gone.jpg,what?,\n"
        "a.jpg,is it red?,\n"
    )
    return root


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def test_one_question(capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["ask", "--model", "vilt", "--image", "pictures/a.jpg", "--question", "is it red?"]
    assert main(ask) == 0
    assert capsys.readouterr().out.strip() in tiny.ANSWERS


def test_the_old_word_still_asks_and_names_the_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Until 0.2 `predict` was what `ask` is; without options it is the pipeline's stage."""
    words = ["--model", "vilt", "--image", "pictures/a.jpg", "--question", "is it red?"]
    assert main(["ask", *words]) == 0
    answer = capsys.readouterr()
    assert answer.err == ""
    assert main(["predict", *words]) == 0
    again = capsys.readouterr()
    assert again.out == answer.out
    assert again.err == (
        "abo-vqa predict: with options, this command is now called `abo-vqa ask`.\n"
    )


def test_predict_alone_is_the_stage(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("abo_vqa.stages.predict.execute", lambda name, *_, **__: f"stage {name}")
    assert main(["predict"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("stage predict\n", "")


def test_choices_from_likely_to_unlikely(capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["ask", "--model", "clip-fixed", "--image", "pictures/a.jpg"]
    assert main([*ask, "--question", "what color?", "--choices", "red", "blue", "green"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.strip().splitlines()]
    assert sorted(choice for _, choice in lines) == ["blue", "green", "red"]
    scores = [float(score) for score, _ in lines]
    assert scores == sorted(scores, reverse=True)


def test_a_table_keeps_its_columns_and_order(here: Path) -> None:
    ask = ["ask", "--model", "blip", "--images", "pictures", "--csv", "asked.csv"]
    assert main([*ask, "--out", "answered.csv"]) == 0
    table = read_table("answered.csv")
    assert list(table) == ["image_name", "question", "note", "generated_answer", "error"]
    assert table["image_name"].tolist() == ["a.jpg", "b.png", "gone.jpg", "a.jpg"]
    assert table["note"].tolist() == ["x", "None", "", ""]
    assert table["generated_answer"].iloc[2] == ""
    assert table["error"].tolist() == ["", "", "No such file or directory", ""]
    assert not list((here / ".cache/abo-vqa/ask").iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--image", "pictures/a.jpg"], "give either --image FILE --question TEXT"),
        (["--image", "gone.jpg", "--question", "x?"], "image gone.jpg: No such file"),
        (["--image", "asked.csv", "--question", "x?"], "not a JPEG"),
        (["--images", "gone", "--csv", "asked.csv", "--out", "o.csv"], "no folder gone"),
        (["--images", "pictures", "--csv", "gone.csv", "--out", "o.csv"], "no table at gone.csv"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "--model", "vilt", *arguments]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert "Traceback" not in message


def test_no_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--image", "pictures/a.jpg", "--question", "x?"]) == 2
    assert "run the stage `finetune`" in capsys.readouterr().err


def test_a_question_for_which_memory_isnt_enough(monkeypatch, capsys) -> None:
    """One message that says what to set, and no traceback; of a table nothing is written."""
    from abo_vqa.models.vilt import Vilt

    def full(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(Vilt, "predict_answers", full)
    one = ["--image", "pictures/a.jpg", "--question", "is it red?"]
    many = ["--images", "pictures", "--csv", "asked.csv", "--out", "short.csv"]
    for words in (one, many):
        assert main(["ask", "--model", "vilt", *words]) == 2
        assert (
            "for models.vilt in the profile: dtype: bfloat16; quantize: 8bit."
            in capsys.readouterr().err
        )
    assert not Path("short.csv").exists()
