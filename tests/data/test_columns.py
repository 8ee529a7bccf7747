import argparse

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.data.columns import parse_columns_option, read_columns


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
        read(tmp_path, text, chosen={})
    with pytest.raises(UserError, match=r"'answer', 'ground_truth'. Rename one"):
        read(tmp_path, text)  # a command without the option
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
    assert "error" in read(tmp_path, text, optional=("error",)).source_names
    assert (
        "error" not in read(tmp_path, text, optional=("error",), chosen={"error": ""}).source_names
    )


@pytest.mark.parametrize("chosen", [{"answer": "nope"}, {"question": "answer"}])
def test_wrong_choices_are_refused(tmp_path, chosen):
    with pytest.raises(UserError, match="--columns"):
        read(tmp_path, "answer,prediction\nred,red\n", chosen=chosen)


def test_the_option_is_parsed():
    assert parse_columns_option("image_path=img, answer=gt,error=") == {
        "image_path": "img",
        "answer": "gt",
        "error": "",
    }
    for wrong in ("answer", "answer=a,answer=b", "=x"):
        with pytest.raises(argparse.ArgumentTypeError):
            parse_columns_option(wrong)


def test_a_running_number_is_no_picture_unless_named_so(tmp_path):
    """As a picture's name it would make each row another picture, and an audit blind."""
    text = "id,photo,question\n" + "".join(f"{i},a.jpg,q\n" for i in (2, 0, 1))
    with pytest.raises(UserError, match=r"lacks the column image_path.*'id' just numbers the rows"):
        read(tmp_path, text, ("image_path", "question"))
    assert (
        "image_path"
        not in read(tmp_path, text, ("question",), optional=("image_path",)).source_names
    )
    named = read(tmp_path, text, ("image_path",), chosen={"image_path": "id"})
    assert named.frame["image_path"].tolist() == ["2", "0", "1"]
    beside = text.replace("photo", "image_url")
    assert read(tmp_path, beside, ("image_path",)).source_names == {"image_path": "image_url"}
    for ids in ("17,5,90", "1,1,2", "1,2,x"):
        rows = "".join(f"{i},q\n" for i in ids.split(","))
        assert read(tmp_path, f"id,question\n{rows}", ("image_path",)).source_names == {
            "image_path": "id"
        }


def test_rows_without_question_or_answer_are_named(tmp_path):
    text = "question,answer\nq,red\n ,red\nq,\n,\n"
    said = read(tmp_path, text, ("question", "answer")).blank_warnings()
    assert "2 row(s)" in said[0]
    assert "have no question (lines 3, 5)" in said[0]
    assert "have no answer (lines 4, 5)" in said[1]


def test_two_columns_of_one_name_have_to_be_renamed(tmp_path):
    text = "answer,answer,prediction\nred,blue,red\n"
    with pytest.raises(UserError, match=r"'answer', 'answer'\. Rename one, or remove the others"):
        read(tmp_path, text)
    with pytest.raises(UserError, match="several of that name"):
        read(tmp_path, text, chosen={"answer": "Answer"})


def test_a_file_without_a_header_is_shown_as_it_is(tmp_path):
    with pytest.raises(UserError, match="It has 'q', 'red', 'red', separated by commas"):
        read(tmp_path, "q,red,red\nq,red,blue\n")
    alone = r"only one column, 'answer\|prediction'; columns may be separated by commas"
    with pytest.raises(UserError, match=alone):
        read(tmp_path, "answer|prediction\nred|red\n")
