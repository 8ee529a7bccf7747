"""Checks of the whole table: what no single pair shows."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import question_type
from abo_vqa.models.blind.baselines import fit_ngrams, fit_question_lookup

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Row = Mapping[str, str]

_FOLDS = 5
_NGRAM_ROWS = 5_000  # more rows take minutes, and change the share by less than a point
_YES_TOLERANCE = 0.1


class _Numbered:
    """Texts by number, each kept once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))

    @property
    def texts(self) -> list[str]:
        return list(self.numbers)


class _Columns:
    """A table's columns as numbers: millions of rows fit into memory.

    Args:
        rows: see `check_corpus`.
    """

    def __init__(self, rows: Iterable[_Row]) -> None:
        images, kinds, questions, answers = _Numbered(), _Numbered(), _Numbered(), _Numbered()
        columns: tuple[array[int], ...] = tuple(array("i") for _ in range(4))
        for row in rows:
            columns[0].append(images(row["image_path"]))
            columns[1].append(kinds(row.get("product_type", "")))
            columns[2].append(questions(row["question"]))
            columns[3].append(answers(row["answer"]))
        self.images, self.kinds, self.questions, raw_answers = (
            np.frombuffer(column, np.int32) for column in columns
        )
        self.image_paths, self.kind_names = images.texts, kinds.texts
        self.question_texts = questions.texts
        plain, unified = _Numbered(), _Numbered()
        numbers = [plain(normalise(text)) for text in self.question_texts]
        self.plain_questions = np.array(numbers, np.int64)[self.questions]
        self.unique_questions = len(plain.numbers)
        numbers = [unified(normalise(text)) for text in answers.texts]
        self.answers = np.array(numbers, np.int64)[raw_answers]
        self.answer_texts = unified.texts

    def __len__(self) -> int:
        return len(self.images)

    def pairs(self, numbers: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return one number for each row's number in a column together with its question."""
        together: NDArray[np.int64] = (
            numbers.astype(np.int64) * max(1, self.unique_questions) + self.plain_questions
        )
        return together


def check_corpus(rows: Iterable[_Row], seed: int, yes_share: float | None) -> dict[str, Any]:
    """Return numbers about a table, and warnings.

    Args:
        rows: with image_path, question, answer; product_type and question_kind if known.
        seed: for the folds.
        yes_share: the target share of "yes" among the yes/no answers.

    Returns:
        counts and shares, deterministic for the same rows and seed.
    """
    table = _Columns(rows)
    numbers: dict[str, Any] = {
        "images": len(table.image_paths),
        "duplicate_pairs": len(table) - len(np.unique(table.pairs(table.images))),
        "unique_questions": table.unique_questions,
        "unique_answers": len(table.answer_texts),
        "top_10_answers_share": _top_share(table.answers, 10),
        "yes_no": _yes_no_balance(table),
        "types": _diversity(table),
        "answerable_without_picture": _blind_accuracies(table, seed),
    }
    numbers["warnings"] = _warnings(numbers, yes_share)
    return numbers


def _top_share(answers: NDArray[np.int64], n: int) -> float:
    """Return the share of the n most frequent answers."""
    top = int(np.sort(np.bincount(answers))[-n:].sum()) if len(answers) else 0
    return round(top / len(answers), 4) if len(answers) else 0.0


def _yes_no_balance(table: _Columns) -> dict[str, Any]:
    """Return the numbers of yes and no among the answers to yes/no questions."""
    types = [question_type(text) == "yes/no" for text in table.question_texts]
    asked = np.array(types, bool)[table.questions]
    counts = Counter({"yes": 0, "no": 0})
    for number, answer in enumerate(table.answer_texts):
        if answer in counts:
            counts[answer] = int((asked & (table.answers == number)).sum())
    total = counts["yes"] + counts["no"]
    share = round(counts["yes"] / total, 4) if total else None
    return {"yes": counts["yes"], "no": counts["no"], "yes_share": share}


def _diversity(table: _Columns) -> dict[str, Any]:
    """Return how varied the questions about one product type are.

    A type's diversity is its number of different questions over its number of rows.
    """
    kinds = len(table.kind_names)
    rows = np.bincount(table.kinds, minlength=kinds).tolist()
    different = np.unique(table.pairs(table.kinds)) // max(1, table.unique_questions)
    texts = np.bincount(different, minlength=kinds).tolist()
    shares = {name: texts[i] / rows[i] for i, name in enumerate(table.kind_names) if rows[i] >= 10}
    if not shares:
        return {"types": kinds}
    least = min(shares, key=lambda t: (shares[t], t))
    return {
        "types": kinds,
        "least_diverse": least,
        "least_diversity": round(shares[least], 4),
        "median_diversity": round(sorted(shares.values())[len(shares) // 2], 4),
    }


def _blind_accuracies(table: _Columns, seed: int) -> dict[str, float]:
    """Return the share of the rows that predictors answer correctly without the image.

    Each is fitted on four fifths of the images and predicts the other fifth, in turn.
    """
    folds = _folds(table.images, table.image_paths, seed)
    if not folds:
        return {}
    hits = {"question": 0, "ngram": 0}
    with_ngrams = len(table) <= _NGRAM_ROWS
    # A blank answer is never predicted.
    blank = np.array([not text for text in table.answer_texts], bool)[table.answers]
    for held_out in folds:
        inside = np.zeros(len(table), bool)
        inside[held_out] = True
        fit = np.flatnonzero(~inside & ~blank)
        if not len(fit):
            continue
        questions, answers = table.question_texts, table.answer_texts
        training = (
            [questions[i] for i in table.questions[fit]],
            [answers[i] for i in table.answers[fit]],
        )
        test_questions = [questions[i] for i in table.questions[held_out]]
        expected = [answers[i] for i in table.answers[held_out]]
        for name, method in (("question", fit_question_lookup), ("ngram", fit_ngrams)):
            if name == "ngram" and not with_ngrams:
                continue
            predicted, _ = method(*training)(test_questions)
            hits[name] += sum(
                p == answer != "" for p, answer in zip(predicted, expected, strict=True)
            )
    if not with_ngrams:
        del hits["ngram"]
    return {name: round(n / len(table), 4) for name, n in hits.items()}


def image_folds(rows: Sequence[_Row], seed: int) -> list[list[int]]:
    """Divide rows into folds, keeping images together.

    Args:
        rows: with image_path.
        seed: for the order of the images.

    Returns:
        the row numbers of each fold; [] for fewer images than folds.
    """
    images = _Numbered()
    numbers = np.array([images(row["image_path"]) for row in rows], np.int32)
    return [fold.tolist() for fold in _folds(numbers, images.texts, seed)]


def _folds(numbers: NDArray[np.int32], paths: Sequence[str], seed: int) -> list[NDArray[np.int64]]:
    """Divide rows into folds; see `image_folds`.

    Args:
        numbers: of each row's image.
        paths: by number.
        seed: for the order of the images.
    """
    if len(paths) < _FOLDS:
        return []
    images = sorted(range(len(paths)), key=paths.__getitem__)
    random.Random(seed).shuffle(images)
    place = np.empty(len(paths), np.int64)
    place[images] = np.arange(len(paths))
    order = np.argsort(place[numbers], kind="stable")
    folds = place[numbers][order] % _FOLDS
    return [order[folds == fold] for fold in range(_FOLDS)]


def _warnings(numbers: Mapping[str, Any], yes_share: float | None) -> list[str]:
    """Return what a person should check before using the table."""
    messages = []
    if numbers["duplicate_pairs"]:
        messages.append(
            f"{numbers['duplicate_pairs']:,} rows repeat a question about the same image"
        )
    share = numbers["yes_no"]["yes_share"]
    enough = numbers["yes_no"]["yes"] + numbers["yes_no"]["no"] >= 30
    if yes_share is not None and enough and abs(share - yes_share) > _YES_TOLERANCE:
        messages.append(f"{share:.0%} of the yes/no answers are yes; the target is {yes_share:.0%}")
    blindly = max(numbers["answerable_without_picture"].values(), default=0)
    if blindly > 0.5:
        messages.append(f"{blindly:.0%} of the answers can be predicted without the image")
    return messages
