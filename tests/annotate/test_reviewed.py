"""What people found wrong of the pairs that the verification's filters keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from abo_vqa.annotate.annotations import Annotations
from abo_vqa.annotate.corrections import apply_reviews
from abo_vqa.annotate.reviews import Judgement, Reviews
from abo_vqa.annotate.verification.asked import asked_rows
from abo_vqa.annotate.verification.reviewed import review_counts
from abo_vqa.core.verify_config import VerifyConfig
from abo_vqa.data.pairs import REVIEW, PairKey, pair_key
from abo_vqa.evaluation.ceiling import label_noise_ceiling
from tests.support.reviews import KEEP, REJECT, review, verify

PAIR = ["image_path", "question", "answer"]


def thousand() -> tuple[list[dict[str, str]], Reviews]:
    """1,000 images with a pair each; every fifth answer is wrong, and people reviewed 100 pairs."""
    answers = ["wrong" if i % 5 == 0 else "right" for i in range(1000)]
    pairs = [
        {"image_path": f"{i}.jpg", "question": "What is it?", "answer": answer}
        for i, answer in enumerate(answers)
    ]
    judgements: dict[PairKey, dict[str, Judgement]] = {}
    for i, pair in enumerate(pairs[:100]):
        decision = KEEP if i % 5 else (REJECT if i % 10 else Judgement("correct", "right"))
        judgements[pair_key(*pair.values())] = {"Anna": decision}
    return pairs, Reviews(judgements)


def test_wrong_answers_that_the_gate_leaves_out_lower_no_ceiling() -> None:
    pairs, reviews = thousand()
    annotations, _ = review(pairs, reviews)
    gate = VerifyConfig(models=("blip",), min_agreement=1.0, blind_share=None)
    # A perfect verifier, which also answers what people rejected.
    kept, counts = verify(annotations, gate, blip="right")
    assert set(kept["answer"]) == {"right"}
    assert (counts["pairs"], counts["left_out"]) == (80, 20)
    ceiling = label_noise_ceiling({**counts, "raters": 1}, kept, 0.95)
    assert ceiling["accuracy"] == 1
    assert ceiling["low"] > 0.95
    # One that agrees with everything takes nothing away: as without a gate.
    echo = {pair["image_path"]: pair["answer"] for pair in pairs}
    without = VerifyConfig(models=("blip",), min_agreement=None, blind_share=None)
    for settings, given in ((gate, echo), (without, "right")):
        _, counts = verify(annotations, settings, blip=given)
        assert (counts["pairs"], counts["left_out"]) == (100, 0)
        assert counts["images"] == [
            {"pairs": 1, "wrong": 0.0, "images": 80},
            {"pairs": 1, "wrong": 1.0, "images": 20},
        ]


def test_the_cap_thins_reviewed_pairs_like_the_others() -> None:
    """Every answer is "wrong" or "right"; blind knows the wrong ones, and a tenth of them stay."""
    pairs, reviews = thousand()
    annotations, _ = review(pairs, reviews)
    cap = VerifyConfig(models=("blind",), min_agreement=None, blind_share=0.02)
    kept, counts = verify(annotations, cap, blind="wrong")
    unreviewed = kept[kept["reviewed"] == ""]
    share = (unreviewed["answer"] == "wrong").mean()
    assert 0 < share < 0.03
    assert 80 <= counts["pairs"] <= 84
    wide = VerifyConfig(models=("blind",), min_agreement=None, blind_share=1.0)
    assert verify(annotations, wide, blind="wrong")[1]["pairs"] == 100


def test_a_corrected_answer_may_be_rejected_or_corrected_again() -> None:
    pair = ("a.jpg", "what is it?")
    judgements = {(*pair, "red"): {"A": Judgement("correct", "blue")}}
    rows = [{"image_path": "a.jpg", "question": "What is it?", "answer": "red"}]

    def outcome(**more: Judgement) -> tuple[list[tuple[str, str]], list[str], dict[str, Any]]:
        reviews = Reviews(judgements | {(*pair, answer): {"B": j} for answer, j in more.items()})
        annotations, counts = review(rows, reviews)
        wrong = [row["wrong"] for row in annotations.reviewed]
        return [(r["answer"], r["reviewed"]) for r in annotations.rows], wrong, counts

    assert outcome()[:2] == ([("blue", "corrected")], ["1"])
    assert outcome(blue=REJECT)[:2] == ([], ["1"])  # once, not twice
    assert outcome(blue=KEEP)[:2] == ([("blue", "corrected")], ["1"])
    assert outcome(blue=Judgement("correct", "teal"))[:2] == ([("teal", "corrected")], ["1"])
    assert outcome(blue=Judgement("correct", "red"))[:2] == ([], ["1"])  # in a circle
    # What was decided about the corrected answer counts, so nobody is told that it doesn't.
    assert outcome(blue=KEEP)[2]["other_pairs"] == 0
    assert outcome(green=KEEP)[2]["other_pairs"] == 1


@pytest.mark.parametrize("decision", [REJECT, KEEP])
def test_only_what_the_annotator_wrote_counts(decision: Judgement) -> None:
    """A pair that never was in the table counts neither way, also beside a rejected one."""
    rows = [{"image_path": "a.jpg", "question": f"What is {i}?", "answer": "red"} for i in range(3)]
    judgements = {
        ("a.jpg", "what is 0?", "red"): {"A": REJECT},
        ("a.jpg", "what is 1?", "red"): {"A": KEEP},
        ("a.jpg", "what is 9?", "red"): {"A": decision},
    }
    annotations, _ = review(rows, Reviews(judgements))
    assert [row["question"] for row in annotations.reviewed] == ["What is 0?", "What is 1?"]
    # What was kept of an image that is left out with its rejects was drawn and reviewed, too.
    lost = Annotations(1, incomplete=rows[1:], rejects=[{**rows[0], "reason": REVIEW}])
    counts = apply_reviews(lost, Reviews(judgements))
    assert (counts["pairs"], counts["rejected"], counts["other_pairs"]) == (2, 1, 1)


def test_questions_that_are_gone_are_asked_without_their_answers() -> None:
    table = pd.DataFrame(
        {"image_path": ["a"], "question": ["What?"], "answer": ["red"], "phash": ["00"]}
    )
    reviewed = pd.DataFrame(
        [["a", "What?", "blue"], ["a", "Who?", "bo"], ["b", "Why?", "so"]], columns=PAIR
    )
    asked = asked_rows(table, reviewed)
    assert asked.to_numpy().tolist() == [
        ["a", "What?", "red", "00"],
        ["a", "Who?", "", "00"],
        ["b", "Why?", "", ""],
    ]
    assert asked_rows(table, reviewed.head(1)).equals(table)
    assert review_counts(reviewed.head(0), np.ones(0, np.bool_), reviewed) == {}
