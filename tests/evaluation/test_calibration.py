"""Calibration and the risk-coverage curve."""

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.proportions import wilson_interval
from abo_vqa.evaluation.calibration import calibrate, risk_coverage_counts


def test_risk_does_not_depend_on_the_order_of_equally_sure_rows():
    confidence, correct = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0.0])
    answered, wrong = risk_coverage_counts(confidence, correct)
    assert answered.tolist() == [1, 3, 4]
    assert wrong.tolist() == [0, 1, 2]
    assert risk_coverage_counts(confidence[::-1], correct[::-1])[1].tolist() == [0, 1, 2]


def test_calibration_by_hand():
    table = pd.DataFrame({"confidence": [0.9, 0.5, 0.5, 0.1, np.nan], "error": "",
                          "accuracy": [1, 1, 0, 0, 1.0]})  # fmt: skip
    result = calibrate(table)
    assert result["n"] == 4
    assert result["expected_calibration_error"] == pytest.approx(0.2 / 4)
    assert [(b["n"], b["accuracy"]) for b in result["bins"]] == [(1, 0), (2, 0.5), (1, 1)]
    middle = result["bins"][1]
    assert (middle["accuracy_low"], middle["accuracy_high"]) == wilson_interval(1, 2)
    curve = result["risk_coverage"]
    assert [p["coverage"] for p in curve] == pytest.approx([0.25, 0.75, 1])
    assert [p["risk"] for p in curve] == pytest.approx([0, 1 / 3, 1 / 2])
    assert [(p["low"], p["high"]) for p in curve] == [
        wilson_interval(0, 1), wilson_interval(1, 3), wilson_interval(2, 4)
    ]  # fmt: skip
