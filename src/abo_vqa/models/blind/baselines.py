"""Baselines that never see the picture, fitted on the train split: what an answer is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import question_type

_Predictor = Callable[[Sequence[str]], tuple[list[str], list[float]]]
"""Questions → answers and the probability that the fitted model gives to each."""


def one_spelling(questions: Sequence[str], answers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Questions and answers to fit on: equal answers spelt alike, blank ones left out.

    Answers that count as equal ("2", "two", "2.0") are one class, in the spelling that is most
    frequent (the first in the alphabet among equals). A blank prediction is never right.
    """
    spelt: dict[str, Counter[str]] = {}
    for answer in answers:
        spelt.setdefault(normalise(answer), Counter())[answer.strip().lower()] += 1
    best = {key: most_common(list(found.elements()))[0] for key, found in spelt.items()}
    kept = [
        (q, best[normalise(a)]) for q, a in zip(questions, answers, strict=True) if normalise(a)
    ]
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


def majority(questions: Sequence[str], answers: Sequence[str]) -> _Predictor:
    """The same answer always: the most frequent one."""
    best = most_common(answers)
    return lambda asked: unzip([best for _ in asked])


def by_type(questions: Sequence[str], answers: Sequence[str]) -> _Predictor:
    """The most frequent answer to questions of the same type; unseen type: of all."""
    table = grouped([question_type(q) for q in questions], answers)
    overall = most_common(answers)
    return lambda asked: unzip([table.get(question_type(q), overall) for q in asked])


def by_question(questions: Sequence[str], answers: Sequence[str]) -> _Predictor:
    """The most frequent answer to the same question; unseen question: to its type."""
    table = grouped([q.strip().lower() for q in questions], answers)
    back_off = by_type(questions, answers)

    def predict(asked: Sequence[str]) -> tuple[list[str], list[float]]:
        others = zip(*back_off(asked), strict=True)
        return unzip(
            [table.get(q.strip().lower(), other) for q, other in zip(asked, others, strict=True)]
        )

    return predict


def by_ngrams(questions: Sequence[str], answers: Sequence[str]) -> _Predictor:
    """Logistic regression on the question's words and pairs of words.

    Answers given only once are left out of the classes: they can't be learnt from words that
    occur once, and there are hundreds of them.

    Where no word occurs in two rows there is nothing to fit, and the same question's answer
    is the best that is known. A fit that is stopped before its end says so (`Ngrams.ended`).
    """
    from abo_vqa.models.blind.ngrams import Ngrams, NoWordError

    counts = Counter(answers)
    known = [(q, a) for q, a in zip(questions, answers, strict=True) if counts[a] > 1]
    if len({answer for _, answer in known}) < 2:
        return by_question(questions, answers)
    try:
        return Ngrams(Counter(known))
    except NoWordError:
        return by_question(questions, answers)


def ended(predictor: _Predictor) -> bool:
    """Whether a predictor's fit came to its end; those that only count always have."""
    return getattr(predictor, "ended", True)


def unzip(pairs: Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    return [answer for answer, _ in pairs], [share for _, share in pairs]


# name: how it is fitted on the train split's questions and answers
VARIANTS: dict[str, Callable[[Sequence[str], Sequence[str]], _Predictor]] = {
    "majority": majority,
    "type": by_type,
    "question": by_question,
    "ngram": by_ngrams,
}
