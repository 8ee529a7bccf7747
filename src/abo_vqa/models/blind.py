"""Baselines that never see the picture, fitted on the train split: what an answer is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from abo_vqa.questions import question_type

Predictor = Callable[[Sequence[str]], tuple[list[str], list[float]]]
"""Questions → answers and the probability that the fitted model gives to each."""


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
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counts = Counter(answers)
    known = [i for i, answer in enumerate(answers) if counts[answer] > 1]
    classes = {answers[i] for i in known}
    if len(classes) < 2:
        return by_question(questions, answers)
    vectorizer = CountVectorizer(ngram_range=(1, 2), binary=True)
    seen = vectorizer.fit_transform([questions[i] for i in known])
    # A coarse tolerance: the last hundredth of the loss takes most of the time and no answer.
    model = LogisticRegression(tol=1e-3).fit(seen, [answers[i] for i in known])

    def predict(asked: Sequence[str]) -> tuple[list[str], list[float]]:
        scores = model.predict_proba(vectorizer.transform(asked))  # [asked, classes]
        best = scores.argmax(axis=1)
        return [str(model.classes_[b]) for b in best], [float(p) for p in scores.max(axis=1)]

    return predict


def unzip(pairs: Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    return [answer for answer, _ in pairs], [share for _, share in pairs]


# name: how it is fitted on the train split's questions and answers
VARIANTS: dict[str, Callable[[Sequence[str], Sequence[str]], Predictor]] = {
    "majority": majority,
    "type": by_type,
    "question": by_question,
    "ngram": by_ngrams,
}
