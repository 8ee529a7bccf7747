"""Several people's reviews: who reviews what, how disagreement is settled, what isn't a review."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from abo_vqa.annotate.replies import parse_pairs
from abo_vqa.annotate.reviews import Judgement, Verdict, decide, read_reviews
from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import clean_answer
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make, vqa
from tests.support.reviews import page_pairs
from tests.support.servers.gemini import GeminiServer

KEEP, REJECT = Judgement("keep"), Judgement("reject")
HEADER = "image_path,question,answer,decision,corrected,rater\n"


def red(word: str = "red") -> Judgement:
    return Judgement("correct", word)


@pytest.mark.parametrize(
    ("votes", "verdict"),
    [
        ([KEEP], Verdict("keep", "", 0)),
        ([KEEP, KEEP, REJECT], Verdict("keep", "", 0)),
        ([KEEP, red()], Verdict("reject", "", 0.5)),  # of two minds: not a clear question
        ([KEEP, REJECT, red()], Verdict("reject", "", 1)),
        ([REJECT, red()], Verdict("reject", "", 1)),
        ([red("2"), red("two")], Verdict("correct", "2", 1)),  # one answer, spelled in two ways
        ([red(), red("pink")], Verdict("reject", "", 1)),
        ([KEEP, REJECT, red(), red()], Verdict("correct", "red", 1)),
    ],
)
def test_the_majority_decides(votes: list[Judgement], verdict: Verdict) -> None:
    assert decide(votes) == verdict
    assert decide(votes[::-1]) == verdict


def test_former_reviews_and_unnamed_raters(tmp_path: Path) -> None:
    old, new = tmp_path / "anna.csv", tmp_path / "b.csv"
    old.write_text("image_path,question,answer,decision\na.jpg,What?,x,keep\na.jpg,Who?,x,\n")
    new.write_text(HEADER + "a.jpg,What?,x,correct,y,\na.jpg,Why?,Grey.,correct,grey,Bo\n")
    reviews = read_reviews([old, new])
    assert reviews.raters == ["Bo", "anna", "b"]
    assert reviews.judgements == {
        ("a.jpg", "what?", "x"): {"anna": KEEP, "b": red("y")},
        ("a.jpg", "why?", "grey"): {"Bo": KEEP},  # only written in another way
    }


def test_reviews_have_the_usual_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Image;Query;gt_answer;Decision\na.jpg;What?;x;keep\n", "utf-8-sig")
    assert read_reviews([path]).judgements == {("a.jpg", "what?", "x"): {"a": KEEP}}


def test_corrected_answers_are_spelled_like_generated_ones(tmp_path: Path) -> None:
    rows = "a.jpg,What?,x,correct, Purple. ,A\na.jpg,What?,x,correct,PURPLE!,B\n"
    (tmp_path / "a.csv").write_text(HEADER + rows)
    (verdict,) = read_reviews([tmp_path / "a.csv"]).verdicts().values()
    assert verdict == Verdict("correct", "purple", 1)
    (pair,) = parse_pairs('{"question": "What?", "answer": " Purple. "}')
    assert pair.answer == "purple"
    assert clean_answer("Dark  Red!?") == "dark red"
    assert clean_answer("…") == "…"  # the quality filter says what is wrong with it


def test_files_of_the_same_name_are_not_one_persons(tmp_path: Path) -> None:
    """Former pages have no column for the rater's name."""
    paths = [
        tmp_path / name
        for name in ("anna/review.csv", "ben/review.csv", "c/ben/REVIEW.csv", "other.csv")
    ]
    for path, decision in zip(paths, ("keep", "reject", "correct", "keep"), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        corrected = "red" if decision == "correct" else ""
        row = f"a.jpg,What?,x,{decision},{corrected}\na.jpg,{path},x,keep,\n"
        path.write_text(f"image_path,question,answer,decision,corrected\n{row}")
    reviews = read_reviews(paths)
    folder = tmp_path.name
    assert reviews.judgements["a.jpg", "what?", "x"] == {
        "anna/review": KEEP,
        f"{folder}/ben/review": REJECT,
        "c/ben/REVIEW": red(),
        "other": KEEP,
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.jpg,What?,x,maybe,,A\n", "must be keep, reject or correct, found 'maybe'"),
        ("a.jpg,What?,x,correct,dark red,A\n", "'dark red' can't be used: the answer isn't"),
        ("a.jpg,What?,x,correct,,A\n", "'' can't be used: there is no answer"),
        ("a.jpg,What?,x,keep,,A\na.jpg,What?,x,reject,,A\n", "A decided reject about 'What?'"),
    ],
)
def test_what_is_no_review_is_told(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(HEADER + rows)
    with pytest.raises(UserError, match=re.escape(message)):
        read_reviews([tmp_path / "a.csv"])


def own_table(folder: Path, images: int = 12, per_image: int = 3) -> list[tuple[str, str, str]]:
    rows = make(folder, images)
    pairs = [
        (row["image_path"], f"What is part {k} made of?", "wood")
        for row in rows
        for k in range(per_image)
    ]
    with (folder / "own.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("image_path", "question", "answer"), *pairs])
    return pairs


@pytest.mark.parametrize(("raters", "overlap"), [(2, 0.25), (3, 0.5), (5, 0.1), (2, 0.0)])
def test_the_sample_that_is_advised_fits_and_a_larger_one_doesnt(
    here: Path, capsys: pytest.CaptureFixture[str], raters: int, overlap: float
) -> None:
    own_table(here, images=7, per_image=2)
    options = ["generate", "--review", "p.html", "--vqa", "own.csv"]
    options += ["--raters", str(raters), "--overlap", str(overlap)]
    assert main(options) == 2
    (largest,) = map(int, re.findall(r"--sample (\d+) at most", capsys.readouterr().err))
    assert main([*options, "--sample", str(largest)]) == 0
    assert main([*options, "--sample", str(largest + 1)]) == 2


def test_at_full_overlap_a_few_pairs_are_all_on_each_page(here: Path) -> None:
    pairs = own_table(here, images=2)
    options = ["generate", "--review", "p.html", "--vqa", "own.csv"]
    assert main([*options, "--raters", "2", "--overlap", "1"]) == 0
    pages = [page_pairs(here / f"p-{i}.html") for i in (1, 2)]
    assert pages[0] == pages[1]
    assert sorted(pages[0]) == sorted(pairs)


def test_pairs_for_fewer_pages_than_raters_get_the_only_advice_that_helps(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_table(here, images=1)
    options = ["generate", "--review", "p.html", "--vqa", "own.csv", "--raters", "2"]
    assert main([*options, "--overlap", "0"]) == 2
    error = capsys.readouterr().err
    assert "--sample" not in error
    assert "--overlap 1 puts all pairs on each page" in error


def test_pages_share_some_images_and_no_others(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = own_table(here)
    options = ["generate", "--review", "p.html", "--vqa", "own.csv", "--sample", "12"]
    assert main([*options, "--raters", "3", "--overlap", "0.5"]) == 0
    pages = [page_pairs(here / f"p-{i}.html") for i in (1, 2, 3)]
    assert capsys.readouterr().out.count(": 12 pairs to check, 6 of them on all pages.\n") == 3
    assert pages[0][:6] == pages[1][:6] == pages[2][:6]  # the common ones first
    counts = Counter(pair for page in pages for pair in page)
    assert [len(page) for page in pages] == [12, 12, 12]
    assert sorted(counts.values()) == [1] * 18 + [3] * 6
    assert set(counts) <= set(pairs)
    assert main([*options, "--raters", "4", "--overlap", "0"]) == 2
    error = capsys.readouterr().err
    assert "36 pairs aren't enough for 4 pages of 12" in error
    assert "Use --sample 9 at most" in error
    assert main([*options, "--sample", "9", "--raters", "4", "--overlap", "0"]) == 0

    # What has been reviewed isn't drawn again.
    (here / "conf/reviews/a.csv").write_text(
        HEADER + "".join(",".join((*pair, "keep", "", "A")) + "\n" for pair in pages[0])
    )
    assert main([*options, "--sample", "100"]) == 0
    assert {p for p, _, _ in page_pairs(here / "p.html")} == {p for p, _, _ in pairs} - {
        p for p, _, _ in pages[0]
    }


def test_reviews_count_only_for_pairs_of_the_table(here: Path) -> None:
    """The offline annotator replaces rejects; a majority corrects; what isn't there is told."""
    make(here, 12)
    run(configure(here, annotator="offline"))
    before = [(row["image_path"], row["question"], row["answer"]) for row in vqa(here)]
    votes = {"A": ["reject", "correct", "keep"], "B": ["reject", "correct", "reject"]}
    for rater, decisions in votes.items():
        with (here / f"conf/reviews/{rater}.csv").open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(HEADER.strip().split(","))
            for pair, decision in zip(before, decisions, strict=False):
                writer.writerow([*pair, decision, "plaid" if decision == "correct" else "", rater])
            writer.writerow(["zz/none.jpg", "What is it?", "x", "keep", "", rater])
    summary = run(configure(here, annotator="offline"))
    after = {(row["image_path"], row["question"]): row for row in vqa(here)}
    assert before[0] not in {(*key, row["answer"]) for key, row in after.items()}
    corrected = after[before[1][:2]]
    assert (corrected["answer"], corrected["reviewed"]) == ("plaid", "corrected")
    assert Counter(row["reviewed"] for row in after.values()).keys() == {"corrected", ""}
    counts = json.loads((here / "data/generate.json").read_text())["reviews"]
    assert counts == {
        "raters": 2, "pairs": 3, "kept": 0, "corrected": 1, "rejected": 2, "undecided": 1,
        "other_pairs": 1,
    }  # fmt: skip
    reviewed = read_table("data/reviewed.csv")
    assert sorted(reviewed["wrong"]) == ["0.5", "1", "1"]
    assert set(reviewed["drawn"]) == {"random"}
    assert "1 reviewed pairs aren't in this table" in summary.message
    assert "doesn't count (1 in conf/reviews/A.csv, 1 in conf/reviews/B.csv)" in summary.message


def test_a_paid_model_replaces_what_people_reject(here: Path) -> None:
    """One more request, for another pair than the rejected one; the corrected one stays."""
    make(here, 2)
    with GeminiServer() as server:
        config = configure(here, annotator="gemini", base_url=server.url)
        run(config)
        before = [(row["image_path"], row["question"], row["answer"]) for row in vqa(here)]
        review = "".join(
            ",".join((*before[i], decision, "")) + "\n"
            for i, decision in ((0, "reject,"), (1, "correct,plaid"), (2, "keep,"))
        )
        (here / "conf/reviews/a.csv").write_text(HEADER + review)
        for _ in range(2):  # the second time from the journal alone
            run(config)
            assert len(server.generated()) == 3
            after = vqa(here)
            assert len(after) == len(before)
            assert before[0][:2] not in {(row["image_path"], row["question"]) for row in after}
            states = Counter((row["reviewed"], row["answer"] == "plaid") for row in after)
            assert states == {("corrected", True): 1, ("keep", False): 1, ("", False): 4}


def spreadsheet(path: Path, encoding: str = "utf-8-sig") -> bytes:
    """What a spreadsheet program with semicolons makes of a review: its own truths and numbers."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))
    own = {"true": "TRUE", "2.0": "2", "keep": "Keep"}
    lines = [";".join(f'"{own.get(cell, cell)}"' for cell in row) for row in rows]
    return "\r\n".join([*lines, ";" * (len(rows[0]) - 1), ""]).encode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_spreadsheet_changes_nothing(tmp_path: Path, encoding: str) -> None:
    rows = "a.jpg,Is it new?,true,keep,,A\na.jpg,How\nmany?,2.0,reject,,A\nb.jpg,What?,x,,,A\n"
    path = tmp_path / "a.csv"
    path.write_text(HEADER + rows.replace("How\nmany?", '"How\nmany?"'), newline="")
    before = read_reviews([path])
    path.write_bytes(spreadsheet(path, encoding))
    assert read_reviews([path]) == before
    assert list(before.judgements.values()) == [{"A": KEEP}, {"A": REJECT}]


def test_what_a_spreadsheet_has_saved_counts_for_the_table(here: Path) -> None:
    """Answers "true" and "2.0" are "TRUE" and "2" in the review."""
    image = make(here, 1)[0]["image_path"]
    pairs = [("Is the thing striped?", "true"), ("How many are there?", "2.0")]
    with (here / "own.csv").open("w", newline="") as out:
        csv.writer(out).writerows(
            [("image_path", "question", "answer"), *((image, *pair) for pair in pairs)]
        )
    review = here / "conf/reviews/a.csv"
    review.write_text(
        f"{HEADER}{image},{pairs[0][0]},true,reject,,A\n{image},{pairs[1][0]},2.0,correct,3,A\n"
    )
    review.write_bytes(spreadsheet(review))
    run(configure(here, annotator="file", file="own.csv"))
    assert [(row["answer"], row["reviewed"]) for row in vqa(here)] == [("3", "corrected")]


def test_a_file_twice_and_a_name_in_two_ways(tmp_path: Path) -> None:
    rows = "".join(f"{i}.jpg,What?,x,{'keep' if i % 3 else 'reject'},,\n" for i in range(12))
    for name in ("a", "a (1)"):
        (tmp_path / f"{name}.csv").write_text(HEADER + rows)
    files = sorted(tmp_path.glob("*.csv"))
    reviews = read_reviews([*files, files[0]])
    assert (reviews.raters, reviews.files) == (["a (1)"], 1)  # no second person who agrees
    (note,) = reviews.notes
    assert "a.csv has the same content as" in note
    named = rows.replace(",\n", ",Ann\n")
    (tmp_path / "a.csv").write_text(HEADER + named)
    (tmp_path / "b.csv").write_text(HEADER + named.replace("Ann\n", " ann\n"))
    reviews = read_reviews([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert (reviews.raters, reviews.notes, reviews.alike()) == (["Ann"], (), [])
    (tmp_path / "b.csv").write_text(HEADER + named.replace("Ann\n", "Anne B.\n"))
    (warning,) = read_reviews([tmp_path / "a.csv", tmp_path / "b.csv"]).alike()
    assert "Ann and Anne B. decided alike about the same 12 pairs" in warning


def test_saved_twice_with_another_decision(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "a.jpg,What?,x,keep,,Ann\n")
    (tmp_path / "a (1).csv").write_text(HEADER + "a.jpg,What?,x,reject,,Ann\n")
    with pytest.raises(UserError, match="if Ann saved twice, remove the older file"):
        read_reviews(sorted(tmp_path.glob("*.csv")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04\x14", "is a workbook of a spreadsheet program"),
        ("a\u00e9".encode("latin-1"), "CSV in UTF-8 (Excel: CSV UTF-8)"),
        ("image_path".encode("utf-16-le"), "holds zero bytes. Save the table as a CSV"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)):
        read_reviews([tmp_path / "a.csv"])
