"""`abo-vqa agreement` as people use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.cli import main
from tests.support.annotation import here, make  # noqa: F401

HEADER = "image_path,question,answer,decision,corrected,rater\n"


def write(path: Path, rater: str, decisions: str) -> None:
    """One row a letter: k, x, or c; a full stop for none."""
    words = {"k": "keep,", "x": "reject,", "c": "correct,grey", ".": ","}
    path.write_text(
        HEADER
        + "".join(
            f"{i // 2}.jpg,Question {i}?,red,{words[letter]},{rater}\n"
            for i, letter in enumerate(decisions)
        )
    )


def test_several_raters(here: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    make(here)
    write(here / "a.csv", "Anna", "kkkkkkkkkkkkkkxxcc..")
    write(here / "b.csv", "", "kkkkkkkkkkkkkkxkc.kk")
    assert main(["agreement", "a.csv", "b.csv"]) == 0
    out = capsys.readouterr().out
    assert "20 pairs of 10 images, 2 rater(s): Anna, b" in out
    assert "17 pairs have several raters" in out
    assert "Anna and b: 17 common pairs, the same decision about 94.1% [" in out
    assert "  Anna: keep          14          0           0" in out
    # 1 reject, 2 corrections, and one on which they are split.
    assert "wrong answers: 17.5% [" in out
    assert "of 20 pairs; 1 on which they are split evenly count half" in out
    assert "  Anna: 22.2% [" in out

    # One rater only, without a wrong answer: not [0, 0].
    write(here / "c.csv", "Anna", "k" * 20)
    assert main(["agreement", "c.csv"]) == 0
    out = capsys.readouterr().out
    assert "wrong answers: 0.0% [0.0%, 27.8%] of 20 pairs" in out  # Wilson, 0 of 10 images
    assert "alpha" not in out


def test_what_cannot_be_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    make(here)
    write(here / "a.csv", "Anna", "kk..")
    write(here / "b.csv", "Bo", "..kk")
    assert main(["agreement", "a.csv", "b.csv"]) == 0  # the share of wrong answers all the same
    out = capsys.readouterr().out
    assert "note: they have no pair in common" in out
    assert "wrong answers: 0.0% [" in out
    assert "of 4 pairs" in out
    assert "alpha" not in out
    assert main(["agreement", "data/balanced.csv"]) == 2
    err = capsys.readouterr().err
    assert "lacks the column question or query; answer or ground_truth" in err
    assert "; decision. It has" in err
    assert main(["agreement"]) == 2  # the reviews in use: there are none
    assert "nobody has decided about a pair in conf/reviews" in capsys.readouterr().err


def test_suspicious_pairs_are_counted_apart(
    here: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(here)
    write(here / "a.csv", "Anna", "kkkkkkkkxk")
    assert main(["agreement", "a.csv"]) == 0
    share = capsys.readouterr().out.partition("wrong answers: ")[2].partition(" of")[0]
    write(here / "b.csv", "Bo", "." * 8 + "xkcx")  # the first two of these are Anna's, too
    listed = (here / "b.csv").read_text().splitlines()
    rows = [f"{line},Suspicious" for line in listed[1:]]
    (here / "b.csv").write_text("\n".join([f"{listed[0]},drawn", *rows]))
    assert main(["agreement", "a.csv", "b.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f"wrong answers: {share} of 10 pairs drawn at random")
    assert [line.partition(": ")[0] for line in lines[start:]] == [
        "wrong answers",
        "  Anna",
        "  Bo",
        "A model that is always right agrees with about 90.0% of them.",
        "wrong answers",
        "  Bo",
    ]
    assert lines[start + 4].endswith("] of 2 suspicious pairs")
    assert "2 pairs have several raters" in lines
    assert main(["agreement", "b.csv"]) == 0
    out = capsys.readouterr().out
    assert "of 4 suspicious pairs\nnote: that says nothing about the set" in out
    assert "writes a page of random pairs" in out
    assert "always right" not in out


def test_a_corrected_answer_that_is_reviewed_again_is_no_further_pair(
    here: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    """20 pairs of which 6 are corrected: 30%, whoever looks at the new answers."""
    make(here)
    write(here / "z.csv", "Anna", "cccccck" + "k" * 13)
    assert main(["agreement", "z.csv"]) == 0
    share = capsys.readouterr().out.partition("wrong answers: ")[2].partition(" of")[0]
    assert share.startswith("30.0% [")
    lines = (here / "z.csv").read_text().splitlines()
    again = [line for line in lines[1:] if ",correct," in line]
    kept = "".join(line.replace("red,correct,grey,Anna", "Grey,keep,,Bo") + "\n" for line in again)
    (here / "a.csv").write_text(HEADER + kept)
    assert main(["agreement", "a.csv", "z.csv"]) == 0
    out = capsys.readouterr().out
    assert "26 pairs of 10 images" in out
    assert "6 of these are others with the answers that they were corrected to" in out
    assert f"wrong answers: {share} of 20 pairs\n  Anna: {share} of 20\n" in out
    assert "  Bo:" not in out
    # The first of them is corrected back: still one pair, which has no right answer.
    back = "0.jpg,Question 0?,grey,correct,red,Bo"
    (here / "a.csv").write_text(HEADER + back + "\n" + kept.partition("\n")[2])
    assert main(["agreement", "z.csv", "a.csv"]) == 0
    assert f"wrong answers: {share} of 20 pairs\n" in capsys.readouterr().out


def test_pairs_of_another_set_are_told_apart_by_file(
    here: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(here)
    write(here / "a.csv", "Anna", "kkkk")
    write(here / "b.csv", "Bo", "....kx")
    assert main(["agreement", "a.csv", "b.csv"]) == 0
    assert "warning" not in capsys.readouterr().out  # nothing has been generated yet
    pairs = [f"{i // 2}.jpg,Question {i}?,red" for i in range(6)]
    # People have corrected the first one, and it has left the table with its old answer.
    (here / "data/rejects.csv").write_text(
        f"image_path,question,answer,reason\n{pairs[0]},corrected\n"
    )
    (here / "data/generated.csv").write_text("\n".join(["image_path,question,answer", *pairs[1:4]]))
    assert main(["agreement", "a.csv", "b.csv"]) == 0
    out = capsys.readouterr().out
    assert "warning: 2 of the 6 pairs aren't in data/generated.csv or data/rejects.csv" in out
    assert "(2 in b.csv)" in out
    assert main(["agreement", "a.csv"]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main(["agreement", "b.csv"]) == 0
    assert "warning: none of the 2 pairs is in data/generated.csv or" in capsys.readouterr().out
