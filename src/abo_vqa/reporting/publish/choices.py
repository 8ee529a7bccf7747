"""Multiple choice: plausible wrong answers (distractors) that frequency doesn't give away.

If distractors are drawn uniformly, the right answer is usually the most frequent choice, and a
predictor that never sees the image does well. Here they are drawn so that, among questions of the
same form, every choice is equally likely to be the right one: sets of k answers are sampled with
inclusion probabilities k times the answers' shares. An answer with a share above 1/k can't be
hidden among k choices; what that leaves to a blind predictor is measured.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from abo_vqa.annotate.corpus import image_folds
from abo_vqa.core.errors import UserError
from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import answer_type, question_subtype
from abo_vqa.reporting.publish.subsets import SubsetSampler, fit_weights
from abo_vqa.reporting.publish.synonyms import Equivalence

_MIN_CHOICES, _MAX_CHOICES = 2, 26
_DRAWS = 20  # sets drawn before those answers that fit are sampled from alone
# A question with this many rows, and this many answers per choice, is a form of its own.
_MIN_FORM_ROWS, _MIN_FORM_ANSWERS = 50, 3
BLIND_CHOICE_LABELS = {
    "question": "most frequent answer to the same question",
    "type": "most frequent answer to its type of question",
    "chance": "chance",
}

_Row = Mapping[str, str]


@dataclass(frozen=True)
class Choices:
    """The choices of one question.

    Attributes:
        options: in the order shown.
        answer: index of the right one.
    """

    options: list[str]
    answer: int


class DistractorSampler:
    """Draws the distractors of a whole set.

    Args:
        rows: with image_path, question, answer.
        k: choices per row; a question answered by yes or no has two.
        seed: each row's choices depend on it and on the row's image and question.
        equivalent: whether two answers may mean the same.

    Raises:
        UserError: k is out of range.
    """

    def __init__(self, rows: Sequence[_Row], k: int, seed: int, equivalent: Equivalence) -> None:
        if not _MIN_CHOICES <= k <= _MAX_CHOICES:
            raise UserError(
                f"--choices must be between {_MIN_CHOICES} and {_MAX_CHOICES}, found {k}."
            )
        self._rows, self._k, self._seed, self._equivalent = rows, k, seed, equivalent
        self._forms = _question_forms(rows, k)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for row, form in zip(rows, self._forms, strict=True):
            counts[form][normalise(row["answer"])] += 1
        self._overall: Counter[str] = Counter()
        for answers in counts.values():
            self._overall.update(answers)
        self._answers = {form: sorted(names) for form, names in counts.items()}
        self._weights = {
            form: fit_weights(np.array([counts[form][a] for a in names], float), k)
            for form, names in self._answers.items()
        }
        self._samplers = {form: SubsetSampler(w, k - 1) for form, w in self._weights.items()}
        self._spellings = _most_frequent_spellings(rows)
        # Another right answer to the same question about the same image is no distractor.
        self._right: dict[tuple[str, str], set[str]] = defaultdict(set)
        for row in rows:
            self._right[row["image_path"], normalise(row["question"])].add(normalise(row["answer"]))

    def choices(self, index: int) -> Choices:
        """Return the choices of a row.

        Raises:
            UserError: too few answers of the set are suitable.
        """
        row = self._rows[index]
        rng = random.Random(f"{self._seed}:{row['image_path']}:{row['question']}")
        answer = normalise(row["answer"])
        if answer in ("yes", "no"):  # whatever the question looks like: there is no third
            distractors = ["no" if answer == "yes" else "yes"]
        else:
            distractors = self._distractors(index, rng)
        options = [*distractors, answer]
        rng.shuffle(options)
        spelled = [self._spellings.get(option, option) for option in options]
        return Choices(spelled, options.index(answer))

    def _distractors(self, index: int, rng: random.Random) -> list[str]:
        """Draw k - 1 wrong answers of the same type, if possible of the same form of question."""
        row = self._rows[index]
        answer = normalise(row["answer"])
        words = set(normalise(row["question"]).split())
        right = self._right[row["image_path"], normalise(row["question"])]

        def suitable(other: str, chosen: Sequence[str] = ()) -> bool:
            return (
                bool(other)
                and other not in words
                and answer_type(other) == answer_type(answer)
                and not any(self._equivalent(other, option) for option in (*right, answer, *chosen))
            )

        distractors = self._sample(self._forms[index], suitable, rng)
        # A form with too few answers borrows from the others, the most frequent first.
        for other, _ in self._overall.most_common():
            if len(distractors) == self._k - 1:
                break
            if suitable(other, distractors):
                distractors.append(other)
        if len(distractors) < self._k - 1:
            raise UserError(
                f"--choices {self._k}: only {len(distractors)} wrong answers fit "
                f"{row['question']!r} ({row['answer']!r}). Ask for fewer choices, or generate a "
                "larger set."
            )
        return distractors

    def _sample(self, form: str, suitable: Callable[..., bool], rng: random.Random) -> list[str]:
        """Draw up to k - 1 of a form's answers that are suitable together.

        A set with an unsuitable answer is rejected and another one drawn. That is equivalent to
        sampling from the suitable answers, which is done if too many sets are rejected.
        """
        answers = self._answers[form]
        sample = _accepted_sample(self._samplers[form], answers, suitable, rng)
        if len(sample) < self._k - 1:
            indices = [i for i, other in enumerate(answers) if suitable(other)]
            if indices:
                sampler = SubsetSampler(self._weights[form][indices], self._k - 1)
                sample = _accepted_sample(sampler, [answers[i] for i in indices], suitable, rng)
        return sample


def _accepted_sample(
    sampler: SubsetSampler,
    answers: Sequence[str],
    suitable: Callable[..., bool],
    rng: random.Random,
) -> list[str]:
    """Return a set whose answers are all suitable, or the largest suitable part of those drawn."""
    best: list[str] = []
    for _ in range(_DRAWS):
        accepted: list[str] = []
        for i in sampler.draw(rng):
            if suitable(answers[i], accepted):
                accepted.append(answers[i])
        if len(accepted) == sampler.k:
            return accepted
        best = max(best, accepted, key=len)
    return best


def _most_frequent_spellings(rows: Sequence[_Row]) -> dict[str, str]:
    """Return one spelling per normalised answer: "3" among "one", "two" would stand out."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        spellings[normalise(row["answer"])][row["answer"]] += 1
    return {
        answer: min(counts, key=lambda text: (-counts[text], text))
        for answer, counts in spellings.items()
    }


def _question_forms(rows: Sequence[_Row], k: int) -> list[str]:
    """Return the form of each row's question: the question itself if frequent, else its type."""
    answers: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        answers[normalise(row["question"])].append(normalise(row["answer"]))
    frequent = {
        question
        for question, distribution in answers.items()
        if len(distribution) >= _MIN_FORM_ROWS and len(set(distribution)) >= _MIN_FORM_ANSWERS * k
    }
    forms = []
    for row in rows:
        question = normalise(row["question"])
        general = f"{question_subtype(row['question'])}/{answer_type(normalise(row['answer']))}"
        forms.append(question if question in frequent else general)
    return forms


def blind_choice_accuracy(
    rows: Sequence[_Row], choices: Sequence[Choices], seed: int
) -> dict[str, float]:
    """Return how well frequency does on the choices: cross-fitted over images, without the image.

    Args:
        rows: with image_path, question, answer.
        choices: of each row.
        seed: of the folds.

    Returns:
        `question`: the choice given most often to the same question, else to its type;
        `type`: the choice given most often to questions of its type; `chance`: guessing.
    """
    questions = [normalise(row["question"]) for row in rows]
    types = [question_subtype(row["question"]) for row in rows]
    answers = [normalise(row["answer"]) for row in rows]
    hits = {"question": 0, "type": 0}
    folds = image_folds(rows, seed)
    for held_out in folds:
        inside = set(held_out)
        by_question: Counter[tuple[str, str]] = Counter()
        by_type: Counter[tuple[str, str]] = Counter()
        for i in range(len(rows)):
            if i not in inside:
                by_question[questions[i], answers[i]] += 1
                by_type[types[i], answers[i]] += 1
        for i in held_out:
            options = [normalise(option) for option in choices[i].options]
            type_counts = [by_type[types[i], option] for option in options]
            counts = [
                (by_question[questions[i], option], n)
                for option, n in zip(options, type_counts, strict=True)
            ]
            hits["type"] += type_counts.index(max(type_counts)) == choices[i].answer
            hits["question"] += counts.index(max(counts)) == choices[i].answer
    total = max(1, len(rows))
    chance = sum(1 / len(choice.options) for choice in choices) / total
    accuracy = {name: round(n / total, 4) for name, n in hits.items()} if folds else {}
    return {**accuracy, "chance": round(chance, 4)}
