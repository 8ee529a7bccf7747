"""The second opinion: who agrees, what the filters keep, and what they do to the set."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from abo_vqa.annotate.verification import blind_accuracy as measuring
from abo_vqa.annotate.verification.agreement import (
    agreements,
    mean_agreement,
    refuse_own_columns,
    with_opinions,
)
from abo_vqa.annotate.verification.blind_accuracy import BlindMeasure
from abo_vqa.annotate.verification.counts import verification_summary
from abo_vqa.annotate.verification.effects import earlier_sets, effects, filtered_sets
from abo_vqa.annotate.verification.filtered import apply_filters, verification_record
from abo_vqa.annotate.verification.filters import agreeing, capped, kept_rows
from abo_vqa.core.errors import UserError
from abo_vqa.core.proportions import wilson_interval
from abo_vqa.core.verify_config import VerifyConfig, check_verifiers
from abo_vqa.evaluation.aliases import alias_match
from abo_vqa.evaluation.intervals import clustered_wilson_interval
from abo_vqa.models.answering.blind import answer_blind_rows
from tests.support.annotation import defaults

MODELS = {
    "blip": {"family": "blip"},
    "clip": {"family": "clip"},
    "vilt": {"family": "vilt"},
    "ranked": {"family": "blip", "decoding": "ranked"},
}


def opinion(*predictions: str | None) -> pd.DataFrame:
    """None stands for a failed answer."""
    columns = {
        "prediction": [text or "" for text in predictions],
        "error": ["" if text is not None else "unreadable" for text in predictions],
    }
    return pd.DataFrame(columns)


def matches(prediction: str, reference: str) -> float:
    return alias_match(prediction, reference, {"gray": frozenset({"grey"})})


def table(*answers: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_path": [f"{i // 2}.jpg" for i in range(len(answers))],
            "question": [f"What is {i}?" for i in range(len(answers))],
            "answer": answers,
        }
    )


def test_agreement_is_by_normalised_answers_and_failures_are_no_disagreement() -> None:
    rows = table("Two", "red", "red", "red", "A")
    opinions = {
        "blip": opinion("2", "red", "blue", None, ""),
        "vilt": opinion("two.", "blue", "blue", None, "a"),
        "blind": opinion("red", "red", "red", "red", "red"),
    }
    by_verifier = agreements(rows, opinions, matches)
    assert by_verifier["blip"].tolist()[:3] == [1, 1, 0]
    shares = mean_agreement(by_verifier)
    assert shares[[0, 1, 2, 4]].tolist() == [1, 0.5, 0, 0.5]
    assert np.isnan(shares[3])
    assert with_opinions(rows, opinions, shares)["agreement"].tolist() == [
        "1",
        "0.5",
        "0",
        "",
        "0.5",
    ]
    assert np.isnan(mean_agreement({"blind": by_verifier["blind"]})).all()
    assert agreeing(shares, 0.5).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_cap_is_kept_and_does_not_depend_on_the_order(share: float) -> None:
    rows = table(*["red"] * 200)
    right = np.arange(200) % 3 > 0  # two thirds need no image
    kept = capped(rows, right, share, seed=1)
    assert kept[~right].all()
    assert right[kept].mean() <= share
    assert right[kept].mean() > share - 0.02
    order = np.random.default_rng(0).permutation(200)
    shuffled = capped(rows.iloc[order].reset_index(drop=True), right[order], share, seed=1)
    assert shuffled.tolist() == kept[order].tolist()
    assert (capped(rows, right, share, seed=2) != kept).any()
    assert kept[capped(rows, right, share / 2, seed=1)].all()  # a part of it


def test_people_outrank_models_and_both_filters_apply() -> None:
    rows = table("a", "b", "c", "d").assign(reviewed=["", "", "keep", ""])
    shares = np.array([1, 0, 0, 1.0])
    by_verifier = {"blind": pd.Series([1.0, 1.0, 1.0, 0.0]), "blip": pd.Series(shares)}
    settings = VerifyConfig(models=("blip", "blind"), min_agreement=0.5, blind_share=0.4)
    assert kept_rows(rows, shares, by_verifier, settings, 1).tolist() == [False, False, True, True]
    nothing = VerifyConfig(models=("blip",), min_agreement=None, blind_share=None)
    assert kept_rows(rows, shares, by_verifier, nothing, 1).all()


def test_reviewed_pairs_count_against_the_cap() -> None:
    rows = table(*["red"] * 100)
    right, reviewed = np.arange(100) < 60, np.arange(100) % 10 == 0
    kept = capped(rows, right, 0.3, 1, reviewed)
    assert kept[reviewed].all()
    assert (kept & right).sum() == 17  # of 57, as without a review
    assert capped(rows, right, 0.3, 1).sum() == kept.sum()
    tiny = capped(rows, right, 0.01, 1, reviewed)
    assert (tiny & right).tolist() == (right & reviewed).tolist()  # they stay above it, too


def test_effects_tell_size_balance_and_blind_accuracy() -> None:
    rows = table("yes", "no", "red", "red").assign(question=["Is it?", "Is it so?", "What?", "Hm?"])
    by_verifier = {"blip": pd.Series([1, 0, np.nan, 1.0]), "blind": pd.Series([1, 0, 0, 1.0])}
    settings = VerifyConfig(models=("blip", "blind"), min_agreement=None, blind_share=None)
    every = np.ones(4, dtype=bool)
    shares, measured = mean_agreement(by_verifier), [0.25, 0.2, 0.1, 0.05]

    def accuracy(left: pd.DataFrame) -> dict[str, object]:
        share = measured.pop(0) if len(left) else 0.0
        return {"blind_accuracy": share, "blind_interval": [0, 1]}

    known = {"blind_accuracy": 0.5, "blind_interval": [0.1, 0.9]}
    found = effects(
        filtered_sets(rows, shares, by_verifier, every, settings, 1), accuracy, {"none": known}
    )
    assert found["none"] == {
        "pairs": 4, "images": 2, "top_answer_share": 0.5, "yes_share": 0.5, "answer_bits": 1.5,
        "blind_accuracy": 0.5, "blind_interval": [0.1, 0.9],
    }  # fmt: skip
    assert found["answered"]["pairs"] == 3
    assert found["blip agrees"]["pairs"] == 3  # a failure is held against no pair
    assert found["blip agrees"]["yes_share"] == 1
    assert found["blip agrees"]["blind_accuracy"] == 0.25  # measured on what is left
    assert found["blind is wrong"]["blind_accuracy"] == 0.1
    assert found["in use"] == found["none"]


def test_aliases_and_base_forms_are_agreement() -> None:
    rows = table("gray", "dog", "cat", "gray")
    by_verifier = agreements(rows, {"blip": opinion("grey", "dogs", "dog", "")}, matches)
    assert by_verifier["blip"].tolist() == [1, 1, 0, 0]


def test_filters_that_leave_little_and_verifiers_that_know_little_are_warned_of() -> None:
    verifiers = {
        "gpt": {"agreement": 0.07, "failed": 0},
        "vilt": {"agreement": None, "failed": 2001},
        "blip": {"agreement": 0.34, "failed": 0},
        "blind": {"agreement": 0.33, "failed": 0},
    }
    record = {"pairs": 2001, "kept": 312, "verifiers": verifiers}
    first, weak, few = verification_summary(record).splitlines()
    assert first.startswith("312 of 2,001 pairs")
    assert weak.startswith("warning: gpt gives the generated answer less often (7.0%) than blind")
    assert few.startswith("warning: the filters leave 16% of the pairs")
    del verifiers["blind"]
    assert "warning" not in verification_summary({**record, "kept": 1001})
    assert "warning" not in verification_summary({"pairs": 3, "kept": 3})


def test_columns_that_are_in_the_way() -> None:
    rows = table("red").assign(answer_blip="mine")
    refuse_own_columns(rows, ("vilt",))
    with pytest.raises(UserError, match=r"answer_blip, where.*generate\.file"):
        refuse_own_columns(rows, ("vilt", "blip"))
    with pytest.raises(UserError, match="agreement"):
        refuse_own_columns(table("red").assign(agreement="1"), ("blip",))
    refuse_own_columns(rows.assign(agreement="1"), ())


def test_the_set_before_the_gate_and_before_people() -> None:
    rows = table("red", "grey", "blue", "two").assign(
        reviewed=["", "corrected", "keep", "corrected"], phash=["a", "a", "b", "b"]
    )
    rejects = pd.DataFrame(
        [
            ("0.jpg", "What is 1?", "black", "corrected"),
            ("1.jpg", "What is here?", "wood", "review"),
            ("1.jpg", "What brand is it?", "ikea", "brand_or_text"),
            ("9.jpg", "Why?", "because", "length"),
            ("1.jpg", "What is 9?", "red", "surplus"),
            ("1.jpg", "", "", "too_few"),
        ],
        columns=["image_path", "question", "answer", "reason"],
    )
    sets = earlier_sets(rows, rejects)
    assert list(sets) == ["before quality gate", "before reviews"]
    # The answer as it was written; that of "two" was corrected before, in the user's own table.
    expected = ["black", "blue", "red", "two", "wood"]
    assert sorted(sets["before reviews"]["answer"]) == expected
    gate = sets["before quality gate"]
    assert sorted(gate["answer"]) == ["because", *expected[:2], "ikea", *expected[2:]]
    hashes = dict(zip(gate["answer"], gate["phash"], strict=True))
    assert (hashes["ikea"], hashes["black"], hashes["because"]) == ("b", "a", "")


def test_equal_sets_are_measured_once() -> None:
    rejects = pd.DataFrame(columns=["image_path", "question", "answer", "reason"])
    nothing = earlier_sets(table("red"), rejects)
    measured: list[int] = []

    def accuracy(left: pd.DataFrame) -> dict[str, object]:
        measured.append(len(left))
        return {"blind_accuracy": 0.5, "blind_interval": [0, 1]}

    assert effects(nothing, accuracy)["before reviews"]["blind_accuracy"] == 0.5
    unknown = effects(nothing, None)["before reviews"]
    assert unknown["blind_accuracy"] is unknown["blind_interval"] is None
    assert measured == [1]


def interval(values: np.ndarray, images: np.ndarray) -> tuple[float, float]:
    return clustered_wilson_interval(values, images, 0.95)


def test_all_sets_are_measured_on_the_same_images_by_one_fit_if_one_is_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = pd.DataFrame(
        [
            (f"{i}.jpg", f"Is the {part} red?", "no" if part == "leg" else "yes", f"{i % 97}")
            for i in range(200)
            for part in ("leg", "seat", "back")
        ],
        columns=["image_path", "question", "answer", "item_id"],
    )
    left = rows[rows["question"] != "Is the seat red?"].reset_index(drop=True)
    config, parts = defaults(), []

    def watched(asked: pd.DataFrame, train: pd.DataFrame, *variants: object) -> object:
        table = rows if len(asked) + len(train) == len(rows) else left
        images = [set(table["image_path"][part["row_id"]]) for part in (asked, train)]
        products = [set(table["item_id"][part["row_id"]]) for part in (asked, train)]
        assert not images[0] & images[1]
        assert not products[0] & products[1]
        parts.append((images[0], variants))
        return answer_blind_rows(asked, train, *variants)

    monkeypatch.setattr(measuring, "answer_blind_rows", watched)
    sets = {"none": rows, "blip agrees": left}
    small = BlindMeasure.of(config, matches, interval, sets)
    every = small.measure(rows)
    assert every["blind_accuracy"] == 1
    assert every["blind_interval"] == [round(wilson_interval(200, 200)[0], 4), 1]  # of 200 images
    assert not parts  # five fits, of all rows
    monkeypatch.setattr(measuring, "ALL_ROWS", 500)
    large = BlindMeasure.of(config, matches, interval, sets)
    sampled = large.measure(rows)
    assert sampled["blind_accuracy"] == large.measure(left)["blind_accuracy"] == 1
    assert len(left) < 500 < len(rows)
    assert parts[0] == parts[1]  # the smaller set, too
    assert 20 < len(parts[0][0]) < 60
    assert parts[0][1] == (("ngram",),)
    assert sampled["blind_interval"][0] < every["blind_interval"][0]
    together = rows.assign(item_id="1")
    assert BlindMeasure.of(config, matches, interval, {"none": together}).measure(together) == {
        "blind_accuracy": None, "blind_interval": None,
    }  # fmt: skip
    assert small.measure(together)["blind_accuracy"] is None


def test_the_whole_set_is_measured_on_the_same_rows_as_what_filters_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The blind verifier answers all rows; the row of the whole set must not take these answers."""
    rows = table(*["red", "blue"] * 60).assign(question=["What is it?", "What is there?"] * 60)
    right = np.arange(120) % 4 != 1
    prediction = np.where(right, rows["answer"], "green")
    answers = {"blind": pd.DataFrame({"prediction": prediction, "error": ""})}
    config = defaults()
    verify = config.verify.model_copy(update={"models": ("blind",)})
    config = config.model_copy(update={"verify": verify})
    rejects = pd.DataFrame(columns=["image_path", "question", "answer", "reason"])
    filtered = apply_filters(config, rows, answers, matches)
    small = verification_record(config, filtered, rejects, matches, interval)
    assert small["filters"]["none"]["blind_accuracy"] == 0.75
    low, high = small["filters"]["none"]["blind_interval"]
    assert low < 0.75 < high
    assert "blind_sample" not in small
    monkeypatch.setattr(measuring, "ALL_ROWS", 100)
    large = verification_record(config, filtered, rejects, matches, interval)
    assert large["filters"]["none"]["blind_accuracy"] == 1  # by the fit on the other images
    assert large["blind_sample"] == 0.2


@pytest.mark.parametrize(
    ("verify", "problems"),
    [
        ({"models": ["blip", "clip-fixed", "blind"], "min_agreement": 0.5, "blind_share": 0.2}, 0),
        ({"models": []}, 0),
        ({"models": ["blipp"]}, 1),
        ({"models": ["clip"]}, 1),
        ({"models": ["clip-train"]}, 1),
        ({"models": ["ranked"]}, 0),
        ({"models": ["blip", "blip"]}, 1),
        ({"models": ["blind"], "min_agreement": 0.5}, 1),
        ({"models": ["blip"], "blind_share": 0.5}, 1),
        ({"models": ["x", "clip-all"], "blind_share": 0.5}, 3),
    ],
)
def test_settings_are_checked_at_once(verify: dict[str, object], problems: int) -> None:
    found = check_verifiers({"verify": verify, "models": MODELS})
    assert len(found) == problems, found
