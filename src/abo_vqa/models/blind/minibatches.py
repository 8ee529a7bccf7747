"""Logistic regression on more questions than a fit to convergence can hold: Adagrad on minibatches.

Same loss as `ngrams.Softmax`: Σ_q (n_q log Σ_k exp z_qk - Σ_k y_qk z_qk) + |W|²/2C with z = X W.
A fit to convergence keeps a probability for each question and answer, and makes hundreds of passes.
This one keeps the weights and the sums of their squared gradients, makes `PASSES` passes, and is as
accurate on held-out rows (docs/benchmarks.md). Its time is linear in the questions.

Shapes: Q distinct questions, F features (merged words) and the intercept, K answers, B questions of
a batch, f features that a batch has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

# Chosen on held-out made-up rows; accuracy hardly depends on any of them.
PASSES, BATCH, RATE = 4, 256, 0.2
# A question that was asked more often is visited several times a pass, with a part of its answers:
# a thousand answers at once would be a step a thousand times too long.
ROWS_PER_VISIT = 4
SEED = 0  # of the order of visits
_FLOOR = np.float32(1e-2)  # of the squared gradients' sums: bounds a weight's first step


class MinibatchFit:
    """Adagrad's state for one fit.

    Args:
        features: X, sparse [Q, F]: which words a question has.
        counts: y, sparse [Q, K]: how often a question has an answer.
        strength: C.

    Attributes:
        weights: W [F + 1, K], whose last row is the unpenalised intercept.
    """

    def __init__(
        self, features: sparse.csr_array, counts: sparse.csr_array, strength: float
    ) -> None:
        self._features, self._counts = features, counts
        rows = np.asarray(counts.sum(axis=1), np.float32).ravel()
        self._visits = np.ceil(rows / ROWS_PER_VISIT).astype(np.int64)  # of a pass, [Q]
        self._rows = (rows / self._visits).astype(np.float32)  # of a visit, [Q]
        of_word = sparse.csr_array(features.T != 0) @ self._visits
        # A visit's share of the penalty of its words: a pass adds up to the whole penalty.
        self._penalty = (1 / (strength * np.maximum(of_word, 1))).astype(np.float32)
        self.weights = np.zeros((features.shape[1] + 1, counts.shape[1]), np.float32)
        share = np.asarray(counts.sum(axis=0), np.float32).ravel() / rows.sum()
        self.weights[-1] = np.log(share)
        self._squares = np.zeros_like(self.weights)
        self._squares[-1] = 1

    def run(self) -> Floats:
        """Make all passes, with steps that shrink to 0, and return the weights."""
        rng = np.random.default_rng(SEED)
        visits = np.repeat(np.arange(len(self._visits)), self._visits)
        steps, step = PASSES * -(-len(visits) // BATCH), 0
        for _ in range(PASSES):
            order = rng.permutation(visits)
            for start in range(0, len(order), BATCH):
                self._step(order[start : start + BATCH], np.float32(RATE * (1 - step / steps)))
                step += 1
        return self.weights

    def _step(self, visited: NDArray[np.int64], rate: np.float32) -> None:
        """Take one step down the loss of a batch of B questions."""
        batch = self._features[visited]
        scores = batch @ self.weights[:-1]  # [B, K]
        scores += self.weights[-1]
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores *= (self._rows[visited] / scores.sum(axis=1))[:, None]
        given = sparse.coo_array(self._counts[visited])
        scores[given.coords] -= given.data / self._visits[visited][given.coords[0]]
        words, position = np.unique(batch.indices, return_inverse=True)  # [f]
        shape = (len(visited), len(words))
        narrow = sparse.csr_array((batch.data, position, batch.indptr), shape=shape)
        gradient = sparse.csr_array(narrow.T) @ scores  # [f, K]
        weights = self.weights[words]
        share = np.bincount(position, minlength=len(words)) * self._penalty[words]
        gradient += share.astype(np.float32)[:, None] * weights
        squares = self._squares[words]
        squares += gradient * gradient
        self._squares[words] = squares
        squares += _FLOOR
        gradient /= np.sqrt(squares, out=squares)
        gradient *= rate
        weights -= gradient
        self.weights[words] = weights
        intercept = scores.sum(axis=0)
        self._squares[-1] += intercept * intercept
        self.weights[-1] -= rate * intercept / np.sqrt(self._squares[-1])
