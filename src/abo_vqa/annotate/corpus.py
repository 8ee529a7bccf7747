"""Checks of the whole table: what no single pair shows."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import question_type
from abo_vqa.models.blind.baselines import fit_ngrams, fit_question_lookup

_Row = Mapping[str, str]

_FOLDS = 5
_NGRAM_ROWS = 5_000  # more rows take minutes, and change the share by less than a point
_YES_TOLERANCE = 0.1


def check_corpus(rows: Sequence[_Row], seed: int, yes_share: float | None) -> dict[str, Any]:
    """Return numbers about a table, and warnings.

    Args:
        rows: with image_path, question, answer; product_type and question_kind if known.
        seed: for the folds.
        yes_share: the target share of "yes" among the yes/no answers.

    Returns:
        counts and shares, deterministic for the same rows and seed.
    """
    answers = [normalise(row["answer"]) for row in rows]
    numbers: dict[str, Any] = {
        "duplicate_pairs": _count_repeated(rows),
        "unique_questions": len({normalise(row["question"]) for row in rows}),
        "unique_answers": len(set(answers)),
        "top_10_answers_share": _top_share(answers, 10),
        "yes_no": _yes_no_balance(rows, answers),
        "types": _diversity(rows),
        "answerable_without_picture": _blind_accuracies(rows, answers, seed),
    }
    numbers["warnings"] = _warnings(numbers, yes_share)
    return numbers


def _count_repeated(rows: Sequence[_Row]) -> int:
    """Return the number of rows whose image has the same normalised question in an earlier row."""
    counts = Counter((row["image_path"], normalise(row["question"])) for row in rows)
    return sum(n - 1 for n in counts.values())


def _top_share(answers: Sequence[str], n: int) -> float:
    """Return the share of the n most frequent answers."""
    top = sum(count for _, count in Counter(answers).most_common(n))
    return round(top / len(answers), 4) if answers else 0.0


def _yes_no_balance(rows: Sequence[_Row], answers: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of yes and no among the answers to yes/no questions."""
    counts = Counter(
        answer
        for row, answer in zip(rows, answers, strict=True)
        if answer in ("yes", "no") and question_type(row["question"]) == "yes/no"
    )
    total = counts["yes"] + counts["no"]
    share = round(counts["yes"] / total, 4) if total else None
    return {"yes": counts["yes"], "no": counts["no"], "yes_share": share}


def _diversity(rows: Sequence[_Row]) -> dict[str, Any]:
    """Return how varied the questions about one product type are.

    A type's diversity is its number of different questions over its number of rows.
    """
    questions: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        questions[row.get("product_type", "")].append(normalise(row["question"]))
    shares = {t: len(set(texts)) / len(texts) for t, texts in questions.items() if len(texts) >= 10}
    if not shares:
        return {"types": len(questions)}
    least = min(shares, key=lambda t: (shares[t], t))
    return {
        "types": len(questions),
        "least_diverse": least,
        "least_diversity": round(shares[least], 4),
        "median_diversity": round(sorted(shares.values())[len(shares) // 2], 4),
    }


def _blind_accuracies(rows: Sequence[_Row], answers: Sequence[str], seed: int) -> dict[str, float]:
    """Return the share of the rows that predictors answer correctly without the image.

    Each is fitted on four fifths of the images and predicts the other fifth, in turn.
    """
    questions = [row["question"] for row in rows]
    folds = image_folds(rows, seed)
    if not folds:
        return {}
    hits = {"question": 0, "ngram": 0}
    with_ngrams = len(rows) <= _NGRAM_ROWS
    for held_out in folds:
        inside = set(held_out)
        # A blank answer is never predicted.
        fit = [i for i in range(len(rows)) if i not in inside and answers[i]]
        if not fit:
            continue
        training = [questions[i] for i in fit], [answers[i] for i in fit]
        test_questions = [questions[i] for i in held_out]
        for name, method in (("question", fit_question_lookup), ("ngram", fit_ngrams)):
            if name == "ngram" and not with_ngrams:
                continue
            predicted, _ = method(*training)(test_questions)
            hits[name] += sum(
                p == answers[i] != "" for p, i in zip(predicted, held_out, strict=True)
            )
    if not with_ngrams:
        del hits["ngram"]
    return {name: round(n / len(rows), 4) for name, n in hits.items()}


def image_folds(rows: Sequence[_Row], seed: int) -> list[list[int]]:
    """Divide rows into folds, keeping images together.

    Args:
        rows: with image_path.
        seed: for the order of the images.

    Returns:
        the row numbers of each fold; [] for fewer images than folds.
    """
    by_image: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_image[row["image_path"]].append(i)
    images = sorted(by_image)
    if len(images) < _FOLDS:
        return []
    random.Random(seed).shuffle(images)
    return [[i for image in images[f::_FOLDS] for i in by_image[image]] for f in range(_FOLDS)]


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
