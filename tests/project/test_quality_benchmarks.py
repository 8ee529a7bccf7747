"""What the benchmarks of verification and near-duplicates count, on tables whose truth is known."""

import lookalikes
import numpy as np
import pandas as pd
import pytest
import variants
import verification
from helpers.shares import share
from verification import Planting, mean_quality, plant, ranking_quality


def test_a_ranking_is_judged_by_precision_and_recall_with_ties_whole():
    wrong = np.array([True, False, True, False, False, True, False, False])
    suspicion = np.array([9, 8, 7, 6, 5, 4, 4, 1.0])
    # Recall 2/3 after three rows; the last error stands in a tie of two.
    assert ranking_quality(suspicion, wrong) == pytest.approx([2 / 3, 3 / 7, 3 / 7, 2 / 3])
    assert ranking_quality(np.zeros(8), wrong) == pytest.approx([3 / 8, 3 / 8, 3 / 8, 0])
    twice = ranking_quality(suspicion, wrong, np.array([2, 1, 1, 1, 1, 1, 1, 1.0]))
    assert twice == pytest.approx([1, 4 / 8, 4 / 8, 1])


def test_figures_are_means_of_plantings_with_an_interval_over_images(monkeypatch):
    monkeypatch.setattr(verification, "RESAMPLES", 100)
    images = np.repeat(np.arange(50), 2)
    wrong = np.arange(100) % 10 < 2  # both questions about every fifth image
    sure, guess = wrong * 1.0, np.zeros(100)
    plantings = [Planting(wrong, {"x": sure}), Planting(wrong, {"x": guess})]
    quality, interval = mean_quality(plantings, "x", images)
    assert quality == pytest.approx([0.6, 0.6, 0.6, 0.5])
    assert (interval[:3, 0] < 0.6).all()
    assert (interval[:3, 1] > 0.6).all()


def test_planted_answers_are_wrong_and_of_the_same_kind():
    kinds = ["color"] * 50 + ["counting"] * 50
    answers = [("red", "blue")[i % 2] for i in range(50)] + [str(i % 5) for i in range(50)]
    table = pd.DataFrame({"question_kind": kinds, "answer": answers})
    planted, wrong = plant(table, 1)
    assert wrong.sum() == 10
    assert ((planted["answer"] != table["answer"]) == wrong).all()
    assert set(planted["answer"][:50]) == {"red", "blue"}


def test_no_product_is_on_both_sides_of_a_threshold():
    products = np.repeat(np.arange(20), 3)
    sides = list(lookalikes.halves(products))
    assert len(sides) == 2
    for chosen_on, measured_on in sides:
        assert not set(products[chosen_on]) & set(products[measured_on])
        assert chosen_on.sum() + measured_on.sum() == 60
    assert (sides[0][0] == sides[1][1]).all()
    assert share(40, 40) == "100.0% (91.2 to 100.0)"
    assert share(0, 0) == "–"


def test_groups_by_variant_are_measured_on_drawn_colours_and_markets(capsys):
    table = variants.draw_products(5, variants.MEASURED_WITH)
    assert table.groupby("product")["item_id"].nunique().eq(3).all()
    variants.print_accuracy(table)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "`" in line]
    recall = {row[0].strip("| `"): float(row[4].partition("%")[0]) for row in rows}
    assert recall["product"] == 0  # another colour has another item id
    assert recall["variant"] > 50
