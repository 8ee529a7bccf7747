"""The table of filters, and who was asked, in words."""

from abo_vqa.reporting.second_opinion import HEADER, filter_rows, filter_table, second_opinion

EFFECT = {
    "pairs": 1200, "images": 400, "top_answer_share": 0.2, "yes_share": None, "answer_bits": 4.25,
    "blind_accuracy": 0.3, "blind_interval": [0.281, 0.32],
}  # fmt: skip
VERIFICATION = {
    "verifiers": {
        "blip": {"agreement": 0.4, "failed": 2},
        "blind": {"agreement": None, "failed": 9},
    },
    "filters": dict.fromkeys(
        ("before reviews", "none", "blip agrees", "blind share 0.2", "in use"), EFFECT
    ),
}


def test_every_filter_is_a_row() -> None:
    rows = filter_rows(VERIFICATION)
    assert [row[0] for row in rows][:4] == [
        "the quality gate accepts them",
        "people's reviews accept them, too",
        "BLIP agrees",
        "at most 20% are right without the image",
    ]
    assert filter_rows({"filters": {"answered": EFFECT}})[0][0] == "at least one model has answered"
    assert "same 20%" not in filter_table(VERIFICATION)["note"]
    sampled = filter_table({**VERIFICATION, "blind_sample": 0.2})["note"]
    assert sampled.endswith("in every line only those about the same 20% of the images.")
    assert all(len(row) == len(HEADER) for row in rows)
    assert rows[0][1:] == ("1,200", "400", "20.0%", "–", "4.250", "30.0% (28.1 to 32.0)")
    unmeasured = {**EFFECT, "blind_accuracy": None, "blind_interval": None}
    assert filter_rows({"filters": {"none": unmeasured}})[0][-1] == "–"


def test_who_was_asked() -> None:
    text = second_opinion(
        VERIFICATION, {"rejected": {"duplicate": 3, "brand_or_text": 4, "surplus": 8, "too_few": 9}}
    )
    assert "BLIP gives the generated answer to 40.0% of the questions (2 not answered)" in text
    assert "the blind predictor has no answer" in text
    assert text.endswith("the quality gate had rejected 7 pairs.")
    reviews = {"pairs": 1200, "kept": 9, "rejected": 5, "corrected": 2}
    text = second_opinion(VERIFICATION, {"rejected": {"review": 5}, "reviews": reviews})
    assert text.endswith("Of 1,200 pairs that people reviewed, they rejected 5 and corrected 2.")
    reviews["random"] = {"pairs": 1000, "raters": 2}
    text = second_opinion(VERIFICATION, {"rejected": {"review": 5}, "reviews": reviews})
    assert "1,200 pairs that people reviewed (200 because they are suspicious), they" in text
    assert "quality gate" not in text
    text = second_opinion({**VERIFICATION, "kept": 1200, "unanswered": 7}, {})
    assert "7 of the 1,200 pairs in the set were answered by no model" in text
    assert "no model" not in second_opinion({**VERIFICATION, "kept": 1200, "unanswered": 0}, {})
    assert "Nobody was asked" in second_opinion({"pairs": 1, "kept": 1}, {})
