"""Agreement of raters, against published values and the libraries resample by resample."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from abo_vqa.evaluation.agreement import (
    AgreementEstimate,
    Labels,
    Resampling,
    krippendorff_alpha,
    pairwise_agreement,
)
from abo_vqa.evaluation.intervals import percentile_interval

QUICK = Resampling(resamples=40)
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): alpha is .743.
OBSERVERS = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")


def labels_of(raters: tuple[str, ...], per_image: int = 1) -> Labels:
    return {
        (f"{unit // per_image:03}.jpg", f"question {unit}?", "x"): {
            str(rater): text[unit] for rater, text in enumerate(raters) if text[unit] != "."
        }
        for unit in range(len(raters[0]))
    }


def draws(images: int) -> np.ndarray:
    """The images of each resample, as the intervals draw them."""
    return np.random.default_rng(QUICK.seed).integers(0, images, size=(QUICK.resamples, images))


def test_alpha_is_the_published_one() -> None:
    alpha = krippendorff_alpha(labels_of(OBSERVERS), "12345", Resampling())
    assert alpha.value == pytest.approx(0.743, abs=5e-4)
    assert alpha.interval is not None
    assert alpha.interval[0] < 0.743 < alpha.interval[1]


def test_resamples_are_what_the_libraries_compute() -> None:
    """Two units an image, so whole images are drawn."""
    rng = np.random.default_rng(1)
    a = rng.integers(0, 3, 60)
    b = np.where(rng.random(60) < 0.7, a, rng.integers(0, 3, 60))
    labels = labels_of(("".join(map(str, a)), "".join(map(str, b))), per_image=2)
    units = [np.r_[2 * image, 2 * image + 1].T.ravel() for image in draws(30)]
    alphas = [krippendorff.alpha([a[u], b[u]], level_of_measurement="nominal") for u in units]
    kappas = [cohen_kappa_score(a[u], b[u]) for u in units]
    alpha = krippendorff_alpha(labels, "012", QUICK)
    (result,) = pairwise_agreement(labels, "012", QUICK)
    for estimate, values in ((alpha, alphas), (result.kappa, kappas)):
        expected = percentile_interval(np.array(values)[:, None], 0.95)[0]
        assert estimate.interval == pytest.approx(expected)


def test_kappa_and_confusion_by_hand() -> None:
    """20 + 15 of 50 the same, 25 expected: (0.7 - 0.5) / (1 - 0.5) = 0.4."""
    cells = {"yy": 20, "yn": 5, "ny": 10, "nn": 15}
    texts = ["".join(c[i] * n for c, n in cells.items()) for i in (0, 1)]
    (result,) = pairwise_agreement(labels_of((texts[0], texts[1])), "yn", QUICK)
    assert (result.raters, result.pairs) == (("0", "1"), 50)
    assert result.confusion.tolist() == [[20, 5], [10, 15]]
    assert result.same.value == pytest.approx(0.7)
    assert result.kappa.value == pytest.approx(0.4)


def test_where_nothing_can_be_said() -> None:
    """All the same: no alpha, no kappa. No disagreement: a value without an interval."""
    same, perfect = labels_of(("yyyy", "yyyy")), labels_of(("yyyn", "yyyn"))
    assert krippendorff_alpha(same, "yn", QUICK) == AgreementEstimate(None)
    assert pairwise_agreement(same, "yn", QUICK)[0].kappa == AgreementEstimate(None)
    assert krippendorff_alpha(perfect, "yn", QUICK) == AgreementEstimate(1.0)
    (result,) = pairwise_agreement(perfect, "yn", QUICK)
    assert result.kappa == AgreementEstimate(1.0)
    assert result.same.interval == pytest.approx((0.5101, 1), abs=1e-4)  # Wilson, 4 of 4
    assert pairwise_agreement(labels_of(("yy..", "..yy")), "yn", QUICK) == []
