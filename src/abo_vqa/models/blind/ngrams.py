"""Logistic regression on a question's words and pairs of words, at the size of a real train split.

scikit-learn's `LogisticRegression` has the same loss, but has one row for each answer of a question
and takes its steps in the plain coordinates, which takes minutes on a real train split
(docs/benchmarks.md). Here a question is one row with all its answers; words that occur in the same
questions are one column; and SciPy's Newton-CG works in coordinates that are scaled to the loss's
curvature, in single precision. A split that is too large for that is fitted in minibatches.

Shapes: Q distinct questions, F features (merged words) and the intercept, K answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from sklearn.feature_extraction.text import CountVectorizer

from abo_vqa.core.errors import AboVqaError
from abo_vqa.models.blind.minibatches import MinibatchFit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import OptimizeResult

    Floats = NDArray[np.float32]

STEPS = 100  # maximum number of Newton steps; 8 to 15 are usual
INVERSE_REGULARIZATION = 2.0  # scikit-learn's C, chosen on held-out images
# Largest entry of the mean loss's gradient. The last hundredth of the loss takes most of the time
# and changes no answer.
TOLERANCE = 5e-4
# The largest fit to convergence, which takes seconds and bytes in proportion to Q K and F K: twice
# the study's split. Whatever is larger is fitted in minibatches.
QUESTION_CELLS, WEIGHT_CELLS = 1 << 25, 1 << 24
# What minibatches fit of a larger split: F K weights and as many sums are 2 GiB at most.
MINIBATCH_ANSWERS, MINIBATCH_WORDS = 1 << 10, 1 << 18
_BATCH = 4096  # questions predicted at a time, which bounds the memory for probabilities


class Softmax:
    """The loss of multinomial logistic regression and its derivatives, in scaled weights.

    Minimised over W [F + 1, K], whose last row is the unpenalised intercept, is
    Σ_q (n_q log Σ_k exp z_qk - Σ_k y_qk z_qk) + |W|²/2C with z = X W. It is written in V = W / D
    with D² the inverse of the second derivatives' rough size: then no direction is much steeper
    than another, and conjugate gradients need few products with the Hessian.

    Args:
        features: X, sparse [Q, F]: which words a question has.
        counts: y, sparse [Q, K]: how often a question has an answer.
        strength: C.
    """

    def __init__(
        self, features: sparse.csr_array, counts: sparse.csr_array, strength: float
    ) -> None:
        ones = np.ones((features.shape[0], 1), np.float32)
        self._features = sparse.csr_array(sparse.hstack([features, ones]), dtype=np.float32)
        self._transposed = sparse.csr_array(self._features.T)
        self._rows = np.asarray(counts.sum(1), np.float32).reshape(-1, 1)  # n_q, [Q, 1]
        self._total = float(self._rows.sum())
        # [F + 1, K], how often a word occurs with an answer
        self._joint = sparse.coo_array(self._transposed @ counts)
        self._penalty = np.full((self._features.shape[1], 1), 1 / strength, np.float32)
        self._penalty[-1] = 0
        share = np.asarray(counts.sum(0), np.float32).reshape(1, -1) / np.float32(self._total)
        self._scale = self._rough_scale(share)  # D, [F + 1, K]
        self.start = np.zeros_like(self._scale)
        self.start[-1] = np.log(share) / self._scale[-1]  # the answers' shares for any question
        self._probabilities = np.empty((self._features.shape[0], share.size), np.float32)
        self._point: Floats | None = None  # where the values below were computed
        self._loss, self._gradient, self._steepest = 0.0, self.start, np.inf

    def _rough_scale(self, share: Floats) -> Floats:
        """Return D: from n p (1 - p), with a word's own answers mixed with those of all rows."""
        words = self._transposed @ self._rows  # [F + 1, 1]: rows with the word, times its value
        rough = words * share
        rough *= np.float32(0.1)
        rough[self._joint.coords] += np.float32(0.9) * self._joint.data
        rough *= 1 - rough / words
        rough *= self._transposed.max(axis=1).toarray().reshape(-1, 1)  # the value squared, now
        rough += self._penalty
        return np.asarray(1 / np.sqrt(rough, out=rough))

    def value(self, flat: Floats) -> tuple[float, Floats]:
        """Return the loss and its gradient at V, flattened.

        SciPy asks for the same point more than once.
        """
        if self._point is None or not np.array_equal(flat, self._point):
            self._point = flat.copy()
            self._evaluate(flat.reshape(self._scale.shape) * self._scale)
        return self._loss, self._gradient.ravel()

    def _evaluate(self, weights: Floats) -> None:
        """Compute probabilities, loss and gradient at W."""
        scores = self._features @ weights  # [Q, K]
        top = scores.max(1, keepdims=True)
        scores -= top
        np.exp(scores, out=scores)
        sums = scores.sum(1, keepdims=True)
        np.divide(scores, sums, out=self._probabilities)
        np.multiply(self._probabilities, self._rows, out=scores)
        gradient = self._transposed @ scores
        coords, counts = self._joint.coords, self._joint.data
        gradient[coords] -= counts
        linear = float(np.dot(weights[coords].astype(np.float64), counts))
        likelihood = float((self._rows * (np.log(sums) + top)).sum(dtype=np.float64)) - linear
        penalised = weights * self._penalty
        self._loss = likelihood + 0.5 * float(np.vdot(weights, penalised))
        gradient += penalised
        self._steepest = float(np.abs(gradient).max()) / self._total
        gradient *= self._scale
        self._gradient = gradient

    def hessian(self, flat: Floats, direction: Floats) -> Floats:
        """Return the Hessian at V times a direction, all flattened."""
        self.value(flat)
        step = direction.reshape(self._scale.shape) * self._scale
        change = self._features @ step
        change -= np.einsum("qk,qk->q", self._probabilities, change)[:, None]
        change *= self._probabilities
        change *= self._rows
        product = self._transposed @ change
        step *= self._penalty
        product += step
        product *= self._scale
        return np.asarray(product.ravel())

    def minimise(self, steps: int, tolerance: float) -> tuple[Floats, bool]:
        """Minimise the loss.

        Args:
            steps: maximum number of Newton steps.
            tolerance: of the largest entry of the mean loss's gradient.

        Returns:
            W [F + 1, K], and whether the tolerance was reached.
        """

        def stop_when_flat(intermediate_result: OptimizeResult) -> None:
            self.value(intermediate_result.x)
            if self._steepest <= tolerance:
                raise StopIteration

        result = minimize(
            self.value, self.start.ravel(), jac=True, hessp=self.hessian, method="Newton-CG",
            callback=stop_when_flat, options={"maxiter": steps, "xtol": 0.0},
        )  # fmt: skip
        self.value(result.x)
        return result.x.reshape(self._scale.shape) * self._scale, self._steepest <= tolerance


def merge_columns(features: sparse.csr_array) -> sparse.csr_array:
    """Return the matrix that merges words which occur in the same questions.

    The weights of c words that always occur together do what one does, and the penalty makes them
    equal; for one weight to cost what the c together do, its word counts √c. So nothing changes but
    the number of weights.

    Args:
        features: sparse [Q, words] of 0 and 1.

    Returns:
        Sparse [words, F].
    """
    columns = sparse.csc_array(features)
    columns.sort_indices()
    ends = columns.indptr
    index: dict[bytes, int] = {}
    merged = [
        index.setdefault(columns.indices[start:end].tobytes(), len(index))
        for start, end in pairwise(ends)
    ]
    value = 1 / np.sqrt(np.bincount(merged)[merged]).astype(np.float32)
    return sparse.csr_array(
        (value, (np.arange(len(merged)), merged)), shape=(len(merged), len(index))
    )


def limit_answers(pairs: Mapping[tuple[str, str], int], limit: int) -> dict[tuple[str, str], int]:
    """Return the pairs with the most frequent answers, the alphabetically first of equal ones.

    Args:
        pairs: how often each (question, answer) occurs.
        limit: how many answers may be left.
    """
    by_answer: Counter[str] = Counter()
    for (_, answer), count in pairs.items():
        by_answer[answer] += count
    kept = set(sorted(by_answer, key=lambda answer: (-by_answer[answer], answer))[:limit])
    return {pair: count for pair, count in pairs.items() if pair[1] in kept}


def limit_columns(
    merged: sparse.csr_array, features: sparse.csr_array, limit: int
) -> sparse.csr_array:
    """Return the merging matrix without the rarest words.

    Args:
        merged: sparse [words, F], see `merge_columns`.
        features: sparse [Q, words].
        limit: how many columns may be left.

    Returns:
        Sparse [words, F or `limit`]; of equally frequent columns the first are taken.
    """
    if merged.shape[1] <= limit:
        return merged
    frequency = np.asarray((features @ merged > 0).sum(axis=0)).ravel()
    kept = np.sort(np.argsort(-frequency, kind="stable")[:limit])
    return sparse.csr_array(sparse.csc_array(merged)[:, kept])


class NoWordError(AboVqaError):
    """No question has a word."""


@dataclass(frozen=True)
class FittedPart:
    """How much of a large split was fitted.

    Attributes:
        answers: the classes, the most frequent answers.
        all_answers: the answers that occur at least twice.
        row_share: of the rows with one of these, those with one of the classes.
        words: the most frequent words and pairs of words that have weights.
        all_words: how many there are.
    """

    answers: int
    all_answers: int
    row_share: float
    words: int
    all_words: int

    def __str__(self) -> str:
        parts = []
        if self.answers < self.all_answers:
            parts.append(
                f"{self.answers:,} of {self.all_answers:,} answers ({self.row_share:.1%} of the "
                "rows)"
            )
        if self.words < self.all_words:
            parts.append(f"{self.words:,} of {self.all_words:,} words and pairs of words")
        return " and ".join(parts)


class Ngrams:
    """A fitted n-gram model: questions → answers and their probabilities.

    Args:
        pairs: how often each (question, answer) occurs; at least two answers.

    Attributes:
        answers: the classes.
        vectorizer: finds the words.
        merged: merges those that occur in the same questions; see `merge_columns`.
        weights: [F + 1, K].
        converged: whether the fit reached its tolerance within `STEPS`; one in minibatches makes
            all its passes, and has none.
        part: what was fitted, or None for everything.

    Raises:
        NoWordError: there is nothing to learn from.
    """

    merged: sparse.csr_array

    def __init__(self, pairs: Mapping[tuple[str, str], int]) -> None:
        self.part: FittedPart | None = None
        features, counts = self._matrices(pairs)
        questions, answers = counts.shape
        columns = self.merged.shape[1]
        if questions * answers <= QUESTION_CELLS and columns * answers <= WEIGHT_CELLS:
            loss = Softmax(features @ self.merged, counts, INVERSE_REGULARIZATION)
            self.weights, self.converged = loss.minimise(STEPS, TOLERANCE)
            return
        if answers > MINIBATCH_ANSWERS:
            limited = limit_answers(pairs, MINIBATCH_ANSWERS)
            features, counts = self._matrices(limited)
            columns = self.merged.shape[1]
        self.merged = limit_columns(self.merged, features, MINIBATCH_WORDS)
        part = FittedPart(
            len(self.answers), answers, counts.sum(dtype=np.float64) / sum(pairs.values()),
            self.merged.shape[1], columns,
        )  # fmt: skip
        self.part = part if str(part) else None
        fit = MinibatchFit(features @ self.merged, counts, INVERSE_REGULARIZATION)
        self.weights, self.converged = fit.run(), True

    def _matrices(
        self, pairs: Mapping[tuple[str, str], int]
    ) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Find answers, words and merged words; return the questions' words and their answers."""
        distinct = sorted(pairs)  # the same sums, hence the same bytes, in any order of rows
        questions = sorted({question.lower() for question, _ in distinct})
        self.answers = sorted({answer for _, answer in distinct})
        row = {question: i for i, question in enumerate(questions)}
        column = {answer: i for i, answer in enumerate(self.answers)}
        self.vectorizer = CountVectorizer(ngram_range=(1, 2), binary=True, dtype=np.float32)
        try:
            features = self.vectorizer.fit_transform(questions)
        except ValueError as error:
            raise NoWordError(str(error)) from error
        self.merged = merge_columns(features)
        coords = [row[q.lower()] for q, _ in distinct], [column[a] for _, a in distinct]
        values = np.array([pairs[pair] for pair in distinct], np.float32)
        return features, sparse.csr_array((values, coords), shape=(len(row), len(column)))

    def __call__(self, questions: Sequence[str]) -> tuple[list[str], list[float]]:
        """Return the most probable answer to each question, and its probability."""
        answers: list[str] = []
        probabilities: list[float] = []
        for start in range(0, len(questions), _BATCH):
            batch = questions[start : start + _BATCH]
            features = self.vectorizer.transform(batch) @ self.merged
            scores = features @ self.weights[:-1] + self.weights[-1]  # [batch, K]
            best = scores.argmax(axis=1)
            scores -= scores.max(axis=1, keepdims=True)
            answers += [self.answers[k] for k in best]
            probabilities += [float(p) for p in 1 / np.exp(scores).sum(axis=1)]
        return answers, probabilities
