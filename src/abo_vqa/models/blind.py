"""Baselines that never see the picture, fitted on the train split: what an answer is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from abo_vqa.metrics.normalise import norm
from abo_vqa.questions import question_type

STEPS = 100  # Newton steps; 12 to 25 on real questions
STRENGTH = 2.0  # inverse of the penalty's weight, scikit-learn's C; chosen on held-out pictures
ASKED_AT_ONCE = 4096  # bounds memory: their probabilities of every answer

Predictor = Callable[[Sequence[str]], tuple[list[str], list[float]]]
"""Questions → answers and the probability that the fitted model gives to each."""


def one_spelling(questions: Sequence[str], answers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Questions and answers to fit on: equal answers spelt alike, blank ones left out.

    Answers that count as equal ("2", "two", "2.0") are one class, in the spelling that is most
    frequent (the first in the alphabet among equals). A blank prediction is never right.
    """
    spelt: dict[str, Counter[str]] = {}
    for answer in answers:
        spelt.setdefault(norm(answer), Counter())[answer.strip().lower()] += 1
    best = {key: most_common(list(found.elements()))[0] for key, found in spelt.items()}
    kept = [(q, best[norm(a)]) for q, a in zip(questions, answers, strict=True) if norm(a)]
    return [q for q, _ in kept], [a for _, a in kept]


def most_common(answers: Sequence[str]) -> tuple[str, float]:
    """The most frequent answer (the first in the alphabet among equals) and its share."""
    counts = Counter(answers)
    best = min(counts, key=lambda answer: (-counts[answer], answer))
    return best, counts[best] / len(answers)


def grouped(keys: Sequence[str], answers: Sequence[str]) -> dict[str, tuple[str, float]]:
    """The most frequent answer under each key, and its share there."""
    groups: dict[str, list[str]] = {}
    for key, answer in zip(keys, answers, strict=True):
        groups.setdefault(key, []).append(answer)
    return {key: most_common(group) for key, group in groups.items()}


def majority(questions: Sequence[str], answers: Sequence[str]) -> Predictor:
    """The same answer always: the most frequent one."""
    best = most_common(answers)
    return lambda asked: unzip([best for _ in asked])


def by_type(questions: Sequence[str], answers: Sequence[str]) -> Predictor:
    """The most frequent answer to questions of the same type; unseen type: of all."""
    table = grouped([question_type(q) for q in questions], answers)
    overall = most_common(answers)
    return lambda asked: unzip([table.get(question_type(q), overall) for q in asked])


def by_question(questions: Sequence[str], answers: Sequence[str]) -> Predictor:
    """The most frequent answer to the same question; unseen question: to its type."""
    table = grouped([q.strip().lower() for q in questions], answers)
    back_off = by_type(questions, answers)

    def predict(asked: Sequence[str]) -> tuple[list[str], list[float]]:
        others = zip(*back_off(asked), strict=True)
        return unzip(
            [table.get(q.strip().lower(), other) for q, other in zip(asked, others, strict=True)]
        )

    return predict


def by_ngrams(questions: Sequence[str], answers: Sequence[str]) -> Predictor:
    """Logistic regression on the question's words and pairs of words.

    Answers given only once are left out of the classes: they can't be learnt from words that
    occur once, and there are hundreds of them.

    The fit is full Newton steps, whose memory is a few arrays of words × answers in single
    precision (L-BFGS remembers twenty), over distinct (question, answer) weighted by how often they
    occur. It ends by its gradient; where it doesn't, `Ngrams.ended` says so.
    """
    counts = Counter(answers)
    known = [(q, a) for q, a in zip(questions, answers, strict=True) if counts[a] > 1]
    if len({answer for _, answer in known}) < 2:
        return by_question(questions, answers)
    return Ngrams(Counter(known))


class Ngrams:
    """A fitted n-gram model.

    Attributes:
        ended: whether the fit reached its tolerance within `STEPS`.
    """

    def __init__(self, pairs: Mapping[tuple[str, str], int]) -> None:
        import warnings

        import numpy as np
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression

        distinct = sorted(pairs)  # the same sums, hence the same bytes, in any order of rows
        self.vectorizer = CountVectorizer(ngram_range=(1, 2), binary=True, dtype=np.float32)
        seen = self.vectorizer.fit_transform([question for question, _ in distinct])
        # A coarse tolerance: the last hundredth of the loss takes most of the time and no answer.
        self.model = LogisticRegression(C=STRENGTH, tol=1e-3, solver="newton-cg", max_iter=STEPS)
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always", ConvergenceWarning)
            self.model.fit(
                seen,
                [answer for _, answer in distinct],
                sample_weight=[pairs[pair] for pair in distinct],
            )
        self.ended = not any(issubclass(w.category, ConvergenceWarning) for w in raised)

    def __call__(self, asked: Sequence[str]) -> tuple[list[str], list[float]]:
        answers: list[str] = []
        sure: list[float] = []
        for start in range(0, len(asked), ASKED_AT_ONCE):
            part = self.vectorizer.transform(asked[start : start + ASKED_AT_ONCE])
            scores = self.model.predict_proba(part)  # [asked, classes]
            answers += [str(self.model.classes_[best]) for best in scores.argmax(axis=1)]
            sure += [float(p) for p in scores.max(axis=1)]
        return answers, sure


def ended(predictor: Predictor) -> bool:
    """Whether a predictor's fit came to its end; those that only count always have."""
    return getattr(predictor, "ended", True)


def unzip(pairs: Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    return [answer for answer, _ in pairs], [share for _, share in pairs]


# name: how it is fitted on the train split's questions and answers
VARIANTS: dict[str, Callable[[Sequence[str], Sequence[str]], Predictor]] = {
    "majority": majority,
    "type": by_type,
    "question": by_question,
    "ngram": by_ngrams,
}
