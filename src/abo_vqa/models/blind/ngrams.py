"""Logistic regression on a question's words and pairs of words, at the size of a real train split.

scikit-learn's `LogisticRegression` has the same loss, but sees a question once an answer and takes
its steps in the plain coordinates: minutes of processor time on a real train split. Here a question
is seen once, with all its answers; words that occur in the same questions are one; and SciPy's
Newton-CG works in coordinates that are scaled to the loss's curvature, in single precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import OptimizeResult

    Floats = NDArray[np.float32]

STEPS = 100  # Newton steps; 8 to 15 when tried
STRENGTH = 2.0  # inverse of the penalty's weight, scikit-learn's C; chosen on held-out pictures
# Largest entry of the mean loss's gradient. The last hundredth of the loss takes most of the time
# and changes no answer.
TOLERANCE = 5e-4
_ASKED_AT_ONCE = 4096  # bounds memory: their probabilities of every answer


class Softmax:
    """The loss of multinomial logistic regression and its derivatives, in scaled weights.

    Minimised over W [words + 1, answers], whose last row is the unpenalised intercept, is
    Σ_q (n_q log Σ_k exp z_qk - Σ_k y_qk z_qk) + |W|²/2C with z = X W. It is written in V = W / D
    with D² the inverse of the second derivatives' rough size: then no direction is much steeper
    than another, and conjugate gradients need few products with the Hessian.

    Args:
        seen: X, sparse: which words a question has.
        given: y, sparse [questions, answers]: how often a question has an answer.
    """

    def __init__(self, seen: Any, given: Any, strength: float) -> None:
        from scipy import sparse

        ones = np.ones((seen.shape[0], 1), np.float32)
        self.seen = sparse.csr_array(sparse.hstack([seen, ones]), dtype=np.float32)
        self.back = sparse.csr_array(self.seen.T)
        self.rows = np.asarray(given.sum(1), np.float32).reshape(-1, 1)  # n_q
        self.total = float(self.rows.sum())
        self.together = sparse.coo_array(self.back @ given)  # a word's rows with an answer
        self.penalty = np.full((self.seen.shape[1], 1), 1 / strength, np.float32)
        self.penalty[-1] = 0
        share = np.asarray(given.sum(0), np.float32).reshape(1, -1) / np.float32(self.total)
        self.scale = self.rough_scale(share)
        self.start = np.zeros_like(self.scale)
        self.start[-1] = np.log(share) / self.scale[-1]  # the answers' shares, whatever is asked
        self.probabilities = np.empty((self.seen.shape[0], share.size), np.float32)
        self.at: Floats | None = None  # where the probabilities, loss and gradient are from
        self.loss, self.gradient, self.steepest = 0.0, self.start, np.inf

    def rough_scale(self, share: Floats) -> Floats:
        """D: what n p (1 - p) would be were a word's answers as counted, mixed with all rows'."""
        words = self.back @ self.rows  # [words + 1, 1]: rows that have the word, times its value
        rough = words * share
        rough *= np.float32(0.1)
        rough[self.together.coords] += np.float32(0.9) * self.together.data
        rough *= 1 - rough / words
        rough *= self.back.max(axis=1).toarray().reshape(-1, 1)  # the value once more: its square
        rough += self.penalty
        return np.asarray(1 / np.sqrt(rough, out=rough))

    def value(self, flat: Floats) -> tuple[float, Floats]:
        """Loss and gradient by V, flattened; SciPy asks for the same point more than once."""
        if self.at is None or not np.array_equal(flat, self.at):
            self.at = flat.copy()
            self.evaluate(flat.reshape(self.scale.shape) * self.scale)
        return self.loss, self.gradient.ravel()

    def evaluate(self, weights: Floats) -> None:
        scores = self.seen @ weights
        top = scores.max(1, keepdims=True)
        scores -= top
        np.exp(scores, out=scores)
        sums = scores.sum(1, keepdims=True)
        np.divide(scores, sums, out=self.probabilities)
        np.multiply(self.probabilities, self.rows, out=scores)
        gradient = self.back @ scores
        places, counts = self.together.coords, self.together.data
        gradient[places] -= counts
        linear = float(np.dot(weights[places].astype(np.float64), counts))
        likely = float((self.rows * (np.log(sums) + top)).sum(dtype=np.float64)) - linear
        weighted = weights * self.penalty
        self.loss = likely + 0.5 * float(np.vdot(weights, weighted))
        gradient += weighted
        self.steepest = float(np.abs(gradient).max()) / self.total
        gradient *= self.scale
        self.gradient = gradient

    def hessian(self, flat: Floats, along: Floats) -> Floats:
        """The Hessian at V times a direction, both flattened."""
        self.value(flat)
        step = along.reshape(self.scale.shape) * self.scale
        change = self.seen @ step
        change -= np.einsum("qk,qk->q", self.probabilities, change)[:, None]
        change *= self.probabilities
        change *= self.rows
        product = self.back @ change
        step *= self.penalty
        product += step
        product *= self.scale
        return np.asarray(product.ravel())

    def minimise(self, steps: int, tolerance: float) -> tuple[Floats, bool]:
        """W, and whether the mean loss's gradient came down to the tolerance within the steps."""
        from scipy.optimize import minimize

        def flat_enough(intermediate_result: OptimizeResult) -> None:
            self.value(intermediate_result.x)
            if self.steepest <= tolerance:
                raise StopIteration

        found = minimize(
            self.value, self.start.ravel(), jac=True, hessp=self.hessian, method="Newton-CG",
            callback=flat_enough, options={"maxiter": steps, "xtol": 0.0},
        )  # fmt: skip
        self.value(found.x)
        return found.x.reshape(self.scale.shape) * self.scale, self.steepest <= tolerance


def merged(seen: Any) -> Any:
    """What puts words that occur in the same questions together: sparse [words, merged words].

    c weights whose words always occur together do what one does, and the penalty makes them equal;
    for one weight to cost what the c together do, its word counts √c. So nothing changes but the
    number of weights.

    Args:
        seen: sparse [questions, words] of 0 and 1.
    """
    from scipy import sparse

    columns = sparse.csc_array(seen)
    columns.sort_indices()
    ends = columns.indptr
    place: dict[bytes, int] = {}
    at = [
        place.setdefault(columns.indices[start:end].tobytes(), len(place))
        for start, end in pairwise(ends)
    ]
    value = 1 / np.sqrt(np.bincount(at)[at]).astype(np.float32)
    return sparse.csr_array((value, (np.arange(len(at)), at)), shape=(len(at), len(place)))


class NoWordError(ValueError):
    """No question has a word."""


class Ngrams:
    """A fitted n-gram model.

    Args:
        pairs: how often each (question, answer) occurs; at least two answers.

    Attributes:
        ended: whether the fit reached its tolerance within `STEPS`.

    Raises:
        NoWordError: there is nothing to learn from.
    """

    def __init__(self, pairs: Mapping[tuple[str, str], int]) -> None:
        from scipy import sparse
        from sklearn.feature_extraction.text import CountVectorizer

        distinct = sorted(pairs)  # the same sums, hence the same bytes, in any order of rows
        questions = sorted({question.lower() for question, _ in distinct})
        self.answers = sorted({answer for _, answer in distinct})
        row = {question: i for i, question in enumerate(questions)}
        column = {answer: i for i, answer in enumerate(self.answers)}
        self.vectorizer = CountVectorizer(ngram_range=(1, 2), binary=True, dtype=np.float32)
        try:
            seen = self.vectorizer.fit_transform(questions)
        except ValueError as error:
            raise NoWordError(str(error)) from error
        self.merged = merged(seen)
        places = [row[q.lower()] for q, _ in distinct], [column[a] for _, a in distinct]
        counts = np.array([pairs[pair] for pair in distinct], np.float32)
        given = sparse.csr_array((counts, places), shape=(len(row), len(column)))
        loss = Softmax(seen @ self.merged, given, STRENGTH)
        self.weights, self.ended = loss.minimise(STEPS, TOLERANCE)

    def __call__(self, asked: Sequence[str]) -> tuple[list[str], list[float]]:
        answers: list[str] = []
        sure: list[float] = []
        for start in range(0, len(asked), _ASKED_AT_ONCE):
            part = self.vectorizer.transform(asked[start : start + _ASKED_AT_ONCE]) @ self.merged
            scores = part @ self.weights[:-1] + self.weights[-1]  # [asked, answers]
            best = scores.argmax(axis=1)
            scores -= scores.max(axis=1, keepdims=True)
            answers += [self.answers[k] for k in best]
            sure += [float(p) for p in 1 / np.exp(scores).sum(axis=1)]
        return answers, sure
