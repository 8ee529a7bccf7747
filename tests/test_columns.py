import argparse

import pytest

from abo_vqa.columns import pairs, read_columns
from abo_vqa.errors import UserError


def read(tmp_path, text, required=("answer", "prediction"), **more):
    path = tmp_path / "t.csv"
    path.write_text(text)
    return read_columns(path, required, **more)


@pytest.mark.parametrize(
    ("header", "required"),
    [
        ("Ground Truth, Predicted_Answer", ("answer", "prediction")),
        ("gt_answer;PRED", ("answer", "prediction")),
        ("answer\tgenerated_answer", ("answer", "prediction")),
        ("Full_Image_Path,Query", ("image_path", "question")),
        ("id,question", ("image_path", "question")),
        ("answer,ground truth question", ("answer",)),
    ],
)
def test_usual_names_in_any_case_and_with_blanks(tmp_path, header, required):
    mark = next(mark for mark in ";\t," if mark in header)
    table = read(tmp_path, f"{header}\nx{mark}y\n", required)
    assert set(required) <= set(table.frame)
    assert all(name in table.describe() for name in required)


def test_a_path_is_the_picture_rather_than_an_id(tmp_path):
    table = read(tmp_path, "id,path,question\n1,a.jpg,q\n", ("image_path", "question"))
    assert table.frame["image_path"].tolist() == ["a.jpg"]
    assert table.frame["id"].tolist() == ["1"]


def test_several_candidates_that_differ_are_refused_and_can_be_chosen(tmp_path):
    text = "answer,ground_truth,prediction\nred,blue,blue\n"
    with pytest.raises(UserError, match=r"'answer', 'ground_truth'.*--columns answer="):
        read(tmp_path, text)
    chosen = read(tmp_path, text, chosen={"answer": "ground_truth"})
    assert chosen.frame["answer"].tolist() == ["blue"]
    assert chosen.frame["answer (unused)"].tolist() == ["red"]


def test_doubled_columns_are_refused_unless_they_agree(tmp_path):
    with pytest.raises(UserError, match="several columns could be the prediction"):
        read(tmp_path, "answer,prediction,prediction\nred,red,blue\n")
    same = read(tmp_path, "answer,prediction,Prediction\nred,blue,blue\n")
    assert same.frame["prediction"].tolist() == ["blue"]


def test_what_is_missing_and_what_is_there_is_said(tmp_path):
    with pytest.raises(UserError, match=r"lacks the column prediction or .*'answer', 'x'"):
        read(tmp_path, "answer,x\nred,red\n")


def test_a_column_can_be_left_unused(tmp_path):
    text = "answer,prediction,error\nred,red,old\n"
    assert "error" in read(tmp_path, text, optional=("error",)).taken
    assert "error" not in read(tmp_path, text, optional=("error",), chosen={"error": ""}).taken


@pytest.mark.parametrize("chosen", [{"answer": "nope"}, {"question": "answer"}])
def test_wrong_choices_are_refused(tmp_path, chosen):
    with pytest.raises(UserError, match="--columns"):
        read(tmp_path, "answer,prediction\nred,red\n", chosen=chosen)


def test_the_option_is_parsed():
    assert pairs("image_path=img, answer=gt,error=") == {
        "image_path": "img",
        "answer": "gt",
        "error": "",
    }
    for wrong in ("answer", "answer=a,answer=b", "=x"):
        with pytest.raises(argparse.ArgumentTypeError):
            pairs(wrong)
