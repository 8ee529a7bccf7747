"""Which answers changed between two states, and whether a difference exceeds the noise."""

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.config import load_config
from abo_vqa.evaluation.changes import CHANGES, compare_answers
from abo_vqa.evaluation.clusters import image_clusters
from abo_vqa.evaluation.significance import permutation_p


@pytest.fixture(scope="module")
def config():
    return load_config()


def table(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    """Scores of (image, question, answer, prediction)."""
    frame = pd.DataFrame(rows, columns=["image_path", "question", "answer", "prediction"])
    frame["accuracy"] = (frame["answer"] == frame["prediction"]).astype(float)
    return frame.assign(error="", row_id=range(len(frame)))


BASE = table(
    ("a.jpg", "color?", "red", "red"),
    ("a.jpg", "kind?", "chair", "sofa"),
    ("b.jpg", "color?", "blue", "green"),
    ("b.jpg", "kind?", "lamp", "lamp"),
    ("b.jpg", "kind?", "lamp", "bulb"),  # the same question twice
)


def test_rows_are_matched_by_question_and_sorted_by_what_became_of_them(config) -> None:
    head = table(
        ("c.jpg", "color?", "white", "white"),  # new: every row number moves
        ("a.jpg", "color?", "red", "pink"),
        ("a.jpg", "kind?", "chair", "stool"),
        ("b.jpg", "color?", "blue", "blue"),
        ("b.jpg", "kind?", "lamp", "lamp"),
        ("b.jpg", "kind?", "lamp", "bulb"),
    )
    changes = compare_answers({"m": BASE, "old": BASE}, {"m": head, "new": head}, config)
    assert (changes.rows, changes.images) == (5, 2)
    assert (changes.rows_base, changes.rows_head) == (5, 6)
    assert (changes.added, changes.removed) == (("new",), ("old",))
    (model,) = changes.models
    assert (model.base, model.head) == (0.4, 0.4)
    assert [model.count(kind) for kind in CHANGES] == [1, 1, 1, 0]
    assert model.changed[["change", "prediction_base", "prediction_head"]].to_numpy().tolist() == [
        ["now wrong", "red", "pink"],
        ["now right", "green", "blue"],
        ["still wrong", "sofa", "stool"],
    ]


def test_an_answer_in_other_words_that_is_as_right_is_a_change(config) -> None:
    head = BASE.assign(prediction=BASE["prediction"].replace("red", "Red"))
    (model,) = compare_answers({"m": BASE}, {"m": head}, config).models
    assert model.changed["change"].tolist() == ["still right"]
    assert not model.significant


def test_same_answers_and_no_question_in_common(config) -> None:
    same = compare_answers({"m": BASE}, {"m": BASE.assign(row_id=range(9, 14))}, config)
    assert (same.models, same.unchanged, same.rows) == ((), ("m",), 5)
    other = compare_answers({"m": BASE}, {"m": BASE.assign(image_path="z.jpg")}, config)
    assert (other.models, other.rows) == ((), 0)


def test_significance_is_the_paired_test_by_images(config) -> None:
    """40 images, 3 questions each: one model gains on whole images, the other loses a few rows."""
    rng = np.random.default_rng(0)
    rows = [(f"{i // 3}.jpg", f"q{i}", "yes", "no") for i in range(120)]
    base = table(*rows)
    gains = base.assign(prediction=["yes" if i // 3 < 20 else "no" for i in range(120)])
    gains["accuracy"] = (gains["prediction"] == "yes").astype(float)
    noise = base.assign(prediction=np.where(rng.random(120) < 0.03, "yes", "no"))
    noise["accuracy"] = (noise["prediction"] == "yes").astype(float)
    changes = compare_answers({"a": base, "b": base}, {"a": gains, "b": noise}, config)
    gained, noisy = changes.models
    assert gained.significant
    assert gained.interval[0] > 0
    assert gained.head == 0.5
    assert not noisy.significant
    differences = np.column_stack([gains["accuracy"], noise["accuracy"]])
    p = permutation_p(differences, image_clusters(base), config.evaluate.resamples, config.seed)
    assert gained.p_adjusted == pytest.approx(2 * min(p))  # Holm, of two models that changed
