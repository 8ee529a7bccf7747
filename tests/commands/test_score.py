"""`abo-vqa score` on tables of one's own, by the command itself."""

import json
import warnings

import pandas as pd
import pytest

from abo_vqa.cli import main
from abo_vqa.commands import known_ceiling
from abo_vqa.commands.score import _METRICS
from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.metric_choice import METRIC_CHOICES
from tests.support import ROOT

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
        run.said = capsys.readouterr()
        return code, tmp_path / "out", run.said.err

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


def test_the_ceiling_of_the_test_rows_is_told(score, tmp_path, monkeypatch):
    ceiling = {
        "accuracy": 0.912, "low": 0.88, "high": 0.94, "pairs": 120, "images": 40, "raters": 1,
        "wrong": {"share": 0.1, "low": 0.06, "high": 0.14}, "left_out": 0, "confidence": 0.9,
    }  # fmt: skip
    (tmp_path / "evaluation.json").write_text(json.dumps({"ceiling": ceiling}))
    test = TABLE.replace("ground_truth", "answer")
    (tmp_path / "test.csv").write_text(test)
    monkeypatch.setattr(known_ceiling, "EVALUATION", tmp_path / "evaluation.json")
    monkeypatch.setattr(known_ceiling, "TEST", tmp_path / "test.csv")
    sentence = "At most about 91.2% can be right (90% interval 88.0 to 94.0): of 120 pairs"
    _, out, _ = score(TABLE, "--metrics", "exact_match")
    assert sentence in score.said.out
    assert any(sentence in note for note in json.loads((out / "summary.json").read_text())["notes"])
    score(TABLE.replace("How many?", "How much?"), "--metrics", "exact_match")  # other questions
    assert "At most about" not in score.said.out


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


def test_answers_that_normalise_to_nothing(score):
    text = "answer,prediction\nA,\n+,-\nA,A++\n&,?\nred,red\n2,2.0\nA,a\n"
    _, out, _ = score(text, "--metrics", "exact_match,f1,token_match")
    scores = pd.read_csv(out / "scores.csv")
    for name in ("exact_match", "f1", "token_match"):
        assert scores[name].tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("value", ["False", "nan", " ", "None", "null", "0", "N/A", "false"])
def test_an_error_column_that_says_no_error(score, value):
    _, out, _ = score(f"answer,prediction,error\nred,red,{value}\n", "--metrics", "f1")
    assert json.loads((out / "summary.json").read_text())["answered"] == 1


def test_a_row_with_an_error_and_a_prediction_is_refused_with_its_line(score):
    text = 'answer,prediction,error\nred,red,\n"a\nb",blue,No such file\nred,red,x\n'
    code, out, error = score(text, "--metrics", "f1")
    assert code == 2
    assert "lines 3, 5" in error
    assert "--columns error=" in error
    assert not out.exists()
    code, out, _ = score(text, "--metrics", "f1", "--columns", "error=")
    assert code == 0
    assert json.loads((out / "summary.json").read_text())["answered"] == 3


@pytest.mark.parametrize("last", [",,,", "AVERAGE,,,", ",Average,,0.67", ",  ,,"])
def test_a_row_of_averages_is_left_out_and_a_question_without_an_answer_is_not(score, last):
    text = "image_path,question,answer,prediction\na.jpg,What?,red,red\nb.jpg,Why?,,\n"
    code, out, _ = score(text + last + "\n", "--metrics", "accuracy")
    assert code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["rows"], summary["accuracy"]) == (2, 0.5)
    assert "left out: 1 row(s) with neither a reference nor a question (line 4)" in score.said.out
    assert "1 row(s) have an empty reference and count as wrong (line 3)" in score.said.out
    assert pd.read_csv(out / "scores.csv")["accuracy"].isna().tolist() == [False, False, True]


def test_nothing_left_to_score(score):
    code, _, error = score("question,answer,prediction\n,,red\n", "--metrics", "f1")
    assert code == 2
    assert "no row to score" in error


def test_every_row_failed_is_said(score):
    _, _, error = score("answer,prediction,error\nred,,timed out\n", "--metrics", "f1")
    assert "every row has an error (the first: 'timed out')" in error


def test_spellings_of_one_picture_are_one_cluster(score):
    rows = [f"{p},red,{said}" for p, said in [
        ("fa/x.jpg", "red"), ("images/small/fa/x.jpg", "red"), ("small\\fa\\x.jpg", "red"),
        ("fb/y.jpg", "blue"), ("/kaggle/input/small/fb/y.jpg", "blue"),
    ]]  # fmt: skip
    _, out, _ = score("Image_Path,answer,pred\n" + "\n".join(rows) + "\n", "--metrics", "accuracy")
    assert "resampled: 2 images (column Image_Path)" in score.said.out
    found = json.loads((out / "summary.json").read_text())["metrics"]["accuracy"]
    assert (found["low"], found["high"]) == (0, 1)  # two pictures, one all right, one all wrong


def test_rows_without_a_picture_are_resampled_one_by_one(score):
    score("image,answer,prediction\n,red,red\n,red,blue\na.jpg,red,red\n", "--metrics", "f1")
    said = "resampled: 1 image (column image), and 2 row(s) that name none, each by itself"
    assert said in score.said.out
    score("answer,prediction\nred,red\n", "--metrics", "f1")
    assert "resampled: rows (no image column found" in score.said.out


def test_few_pictures_that_agree_are_no_certainty(score):
    two = "image,answer,prediction\na.jpg,red,red\nb.jpg,red,red\n"
    _, out, _ = score(two, "--metrics", "accuracy,meteor")
    found = json.loads((out / "summary.json").read_text())["metrics"]
    assert found["accuracy"]["low"] == pytest.approx(0.342, abs=0.001)  # Wilson's of 2 in 2
    assert found["accuracy"]["high"] == 1
    assert found["meteor"]["low"] is None  # all 0.5, which is no share of anything
    one = "image,answer,prediction\na.jpg,red,red\na.jpg,red,blue\n"
    _, out, _ = score(one, "--metrics", "accuracy")
    found = json.loads((out / "summary.json").read_text())["metrics"]["accuracy"]
    assert found == {"mean": 0.5, "low": None, "high": None}
    assert "[no interval]" in score.said.out


def test_a_toy_encoder_is_left_out_unless_asked_for_and_then_named(score):
    _, out, _ = score("answer,prediction\nred,red\nblue,red\n")
    assert "left out: BERTScore and BARTScore" in score.said.out
    assert not [name for name in pd.read_csv(out / "scores.csv") if name.startswith("b") and
                name != "bleu"]  # fmt: skip
    if not (ROOT / "models" / "sample" / "encoder").is_dir():
        pytest.skip("the sample's models aren't pulled")
    score("answer,prediction\nred,red\nblue,red\n", "--metrics", "bertscore_f1,bartscore")
    lines = score.said.out.splitlines()
    for name, real in (("bertscore_f1", "roberta-large"), ("bartscore", "bart-large-cnn")):
        (line,) = [line for line in lines if line.startswith(name)]
        assert "(toy encoder models/sample/" in line
        assert f"not {real})" in line


@pytest.mark.parametrize("rows", ["a.jpg,What?,red,red,", "a.jpg,What?,red,,", "a.jpg,?,red,,x"])
def test_one_row_is_no_reason_for_a_warning(score, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        code, _, error = score(f"image,question,answer,prediction,error\n{rows}\n")
    assert code == 0
    assert "Warning" not in error


def test_any_script_is_scored_and_drawn_without_a_warning(score):
    rows = "赤い,赤い\nनीला,नाला\nأحمر,أحمر\n🔴,🔵\n$5 to $,$6\ncafé,café\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        code, out, _ = score("answer,prediction\n" + rows * 2, "--metrics", "exact_match,f1")
    assert code == 0
    assert pd.read_csv(out / "scores.csv")["exact_match"].tolist() == [1, 0, 1, 0, 0, 1] * 2
    assert (out / "confusions.png").is_file()


def test_a_foreign_table_is_not_called_zero_shot(score, monkeypatch):
    from abo_vqa.reporting.figures import answers

    drawn = []
    monkeypatch.setattr(answers, "kind_legend", lambda *args, **kwargs: drawn.append(args))
    score("question,answer,prediction\nWhat?,red,red\nHow many?,2,2\n", "--metrics", "f1,rouge1")
    assert not drawn


def test_help_keeps_names_of_metrics_whole(capsys):
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    said = capsys.readouterr().out.split()
    assert {"bertscore_recall", "word_overlap_f1", "accuracy"} <= set(said)


def test_a_bare_name_is_in_the_cluster_of_its_path():
    names = ["fa/12345678.jpg", "12345678.jpg", "", "images\\small\\fa\\12345678.JPG", ""]
    names += ["x/1.jpg", "y/1.jpg", "/data/x/1.jpg"]
    found = image_clusters(pd.DataFrame({"image_path": names})).tolist()
    assert found == [0, 0, 1, 0, 2, 3, 4, 3]


def test_the_help_lists_every_metric():
    assert _METRICS == METRIC_CHOICES
