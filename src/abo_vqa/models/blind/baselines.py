"""Baselines that never see the image, fitted on the train split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import question_type
from abo_vqa.models.blind.ngrams import Ngrams, NoWordError

Predictor = Callable[[Sequence[str]], tuple[list[str], list[float]]]
"""Questions → answers, and the probability that the fitted model gives to each."""


def unify_spelling(questions: Sequence[str], answers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Spell equal answers alike and leave out blank ones, which are never right.

    Answers that count as equal ("2", "two", "2.0") are one class, in their most frequent spelling
    (the alphabetically first among equally frequent ones).

    Args:
        questions: the training questions.
        answers: their answers.

    Returns:
        The questions and answers to fit on.
    """
    spellings: dict[str, Counter[str]] = {}
    for answer, count in Counter(answers).items():
        spellings.setdefault(normalise(answer), Counter())[answer.strip().lower()] += count
    best = {key: _most_common(counts)[0] for key, counts in spellings.items()}
    spelt = {answer: best[normalise(answer)] for answer in set(answers) if normalise(answer)}
    known = [i for i, answer in enumerate(answers) if answer in spelt]
    return [questions[i] for i in known], [spelt[answers[i]] for i in known]


def _most_common(counts: Mapping[str, int]) -> tuple[str, float]:
    """Return the most frequent answer (alphabetically first among equals) and its share."""
    best = min(counts, key=lambda answer: (-counts[answer], answer))
    return best, counts[best] / sum(counts.values())


def _most_common_by_key(
    keys: Iterable[str], answers: Iterable[str]
) -> dict[str, tuple[str, float]]:
    """Return the most frequent answer for each key, and its share there."""
    groups: dict[str, dict[str, int]] = {}
    for (key, answer), count in Counter(zip(keys, answers, strict=True)).items():
        groups.setdefault(key, {})[answer] = count
    return {key: _most_common(counts) for key, counts in groups.items()}


def _of_each(function: Callable[[str], str], texts: Sequence[str]) -> Iterator[str]:
    """Yield a function of each text, which is called once for each distinct one."""
    values = {text: function(text) for text in set(texts)}
    return (values[text] for text in texts)


def _folded(question: str) -> str:
    return question.strip().lower()


def fit_majority(questions: Sequence[str], answers: Sequence[str]) -> Predictor:
    """Fit the most frequent answer of all."""
    best = _most_common(Counter(answers))
    return lambda unseen: _unzip([best for _ in unseen])


def fit_type_majority(questions: Sequence[str], answers: Sequence[str]) -> Predictor:
    """Fit the most frequent answer for each type of question; for unseen types, of all."""
    table = _most_common_by_key(_of_each(question_type, questions), answers)
    overall = _most_common(Counter(answers))
    return lambda unseen: _unzip([table.get(question_type(q), overall) for q in unseen])


def fit_question_lookup(questions: Sequence[str], answers: Sequence[str]) -> Predictor:
    """Fit the most frequent answer for each question; for unseen questions, for their type."""
    table = _most_common_by_key(_of_each(_folded, questions), answers)
    back_off = fit_type_majority(questions, answers)

    def predict(unseen: Sequence[str]) -> tuple[list[str], list[float]]:
        others = zip(*back_off(unseen), strict=True)
        return _unzip(
            [table.get(_folded(q), other) for q, other in zip(unseen, others, strict=True)]
        )

    return predict


def fit_ngrams(questions: Sequence[str], answers: Sequence[str]) -> Predictor:
    """Fit a logistic regression on the question's words and pairs of words.

    Answers that occur only once aren't classes: they can't be learnt from words that occur once,
    and there are hundreds of them. If no word occurs in two rows there is nothing to fit, and
    `fit_question_lookup` is the best that can be done. A split of several times the study's size is
    fitted in minibatches, and the most frequent thousand answers are its classes
    (`ngrams.MINIBATCH_ANSWERS`).

    Args:
        questions: the training questions.
        answers: their answers.

    Returns:
        The predictor; `converged` tells whether the fit reached its tolerance, and
        `describe_part` what of the split was fitted.
    """
    counts = Counter(answers)
    repeated = {answer for answer, count in counts.items() if count > 1}
    if len(repeated) < 2:
        return fit_question_lookup(questions, answers)
    pairs = Counter((q, a) for q, a in zip(questions, answers, strict=True) if a in repeated)
    try:
        return Ngrams(pairs)
    except NoWordError:
        return fit_question_lookup(questions, answers)


def converged(predictor: Predictor) -> bool:
    """Return whether a predictor's fit has converged; those that only count always have."""
    return getattr(predictor, "converged", True)


def describe_part(predictor: Predictor) -> str:
    """Return how much of a large split a predictor was fitted on, or "" for all of it."""
    part = getattr(predictor, "part", None)
    return "" if part is None else str(part)


def _unzip(pairs: Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    return [answer for answer, _ in pairs], [share for _, share in pairs]


VARIANTS: dict[str, Callable[[Sequence[str], Sequence[str]], Predictor]] = {
    "majority": fit_majority,
    "type": fit_type_majority,
    "question": fit_question_lookup,
    "ngram": fit_ngrams,
}
"""Name → the function that fits it on the train split's questions and answers."""
