"""`abo-vqa score` on tables of one's own, by the command itself."""

import json
from pathlib import Path

import pandas as pd
import pytest

from abo_vqa.cli import main

ROOT = Path(__file__).parents[1]
LEXICAL = "exact_match,f1,rougeL"
TABLE = """image_path,question,ground_truth,predicted_answer,error
a.jpg,What color is it?,None,none,
a.jpg,How many?,2,two,
b.jpg,What color is it?,red,,
b.jpg,Is it red?,yes,,timed out
"""


@pytest.fixture
def score(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)

    def run(text, *options):
        (tmp_path / "in.csv").write_text(text)
        code = main(["score", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out"), *options])
        return code, tmp_path / "out", capsys.readouterr().err

    return run


def test_rows_keep_their_order_and_columns(score):
    code, out, _ = score(TABLE, "--metrics", LEXICAL)
    assert code == 0
    scores = pd.read_csv(out / "scores.csv", keep_default_na=False, dtype=str)
    given = ["image_path", "question", "ground_truth", "predicted_answer", "error"]
    assert list(scores.columns) == [*given, *LEXICAL.split(",")]
    assert scores["ground_truth"].tolist() == ["None", "2", "red", "yes"]
    assert scores["exact_match"].tolist() == ["1.0", "1.0", "0.0", ""]


def test_the_summary_counts_failures_as_wrong_and_leaves_them_out_of_means(score):
    _, out, _ = score(TABLE, "--metrics", LEXICAL)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["rows"], summary["answered"], summary["accuracy"]) == (4, 3, 0.5)
    assert summary["metrics"]["exact_match"]["mean"] == pytest.approx(2 / 3)
    assert summary["resampled"] == "images"
    assert set(summary["signature"]) == set(LEXICAL.split(","))
    assert (out / "question-types.png").is_file()


def test_without_pictures_and_questions_rows_are_resampled(score):
    code, out, _ = score("answer,prediction\nred,red\nblue,red\n", "--metrics", "exact_match")
    assert code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["resampled"] == "rows"
    assert summary["metrics"]["exact_match"] == {"mean": 0.5, "low": 0.0, "high": 1.0}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [("answer,guess\nred,red\n", (), "lacks the column prediction or predicted_answer"),
     ("answer,prediction\n", (), "no rows"),
     ("answer;prediction\nred;red\n", (), "it has answer;prediction"),
     ("answer,prediction\nred,blue,green\n", (), "more fields than the header"),
     ("answer,prediction\nred,red\n", ("--metrics", "f1,cider"), "no metric cider. There are: "),
     ("answer,prediction\nred,red\n", ("--metrics", ","), "no metric is named"),
     ("answer,prediction\nred,red\n", ("--out", str(ROOT / "params.yaml")), "can't write there")],
)  # fmt: skip
def test_mistakes_are_one_message(score, text, options, message):
    code, _, error = score(text, *options)
    assert code == 2
    assert message in error
    assert "Traceback" not in error


def test_unicode_and_words_of_pandas_are_answers(score):
    text = "answer,prediction\nNone,none\nnan,nan\nnaïve,Naïve\n日本,日本\nNA,\n"
    _, out, _ = score(text, "--metrics", "exact_match,word_overlap_f1,bleu")
    scores = pd.read_csv(out / "scores.csv", keep_default_na=False, dtype=str)
    assert scores["answer"].tolist() == ["None", "nan", "naïve", "日本", "NA"]
    assert scores["exact_match"].tolist() == ["1.0", "1.0", "1.0", "1.0", "0.0"]
    assert scores["bleu"].iloc[-1] == "0.0"


def test_an_earlier_tables_figures_do_not_stay(score):
    _, out, _ = score(TABLE, "--metrics", "f1,rouge1")
    assert (out / "question-types.png").is_file()
    _, out, _ = score("answer,prediction\nred,red\nblue,red\n", "--metrics", "f1,rouge1")
    assert not (out / "question-types.png").exists()
    assert (out / "metric-distributions.png").is_file()


def test_all_rows_failed_leaves_no_nan(score):
    code, out, _ = score("answer,prediction,error\nred,,x\n", "--metrics", LEXICAL)
    assert code == 0
    assert json.loads((out / "summary.json").read_text())["metrics"] == {}
