"""Checks of the whole set: what no single pair shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import question_type

_Row = Mapping[str, str]

_FOLDS = 5
_NGRAM_ROWS = 5_000  # more rows take minutes, and change the share by less than a point
_YES_TOLERANCE = 0.1


def check(rows: Sequence[_Row], seed: int, yes_share: float | None) -> dict[str, Any]:
    """Numbers about a set, and warnings in words.

    Args:
        rows: with image_path, question, answer; product_type and question_kind if known.
        yes_share: the target share of "yes" among the yes/no answers.
    Returns:
        counts and shares, deterministic for the same rows and seed.
    """
    answers = [normalise(row["answer"]) for row in rows]
    found: dict[str, Any] = {
        "duplicate_pairs": repeated(rows),
        "unique_questions": len({normalise(row["question"]) for row in rows}),
        "unique_answers": len(set(answers)),
        "top_10_answers_share": _top_share(answers, 10),
        "yes_no": balance(rows, answers),
        "types": _diversity(rows),
        "answerable_without_picture": blind(rows, answers, seed),
    }
    found["warnings"] = warnings(found, yes_share)
    return found


def repeated(rows: Sequence[_Row]) -> int:
    """Rows whose image has the same normalised question earlier in the table."""
    seen = Counter((row["image_path"], normalise(row["question"])) for row in rows)
    return sum(n - 1 for n in seen.values())


def _top_share(answers: Sequence[str], n: int) -> float:
    top = sum(count for _, count in Counter(answers).most_common(n))
    return round(top / len(answers), 4) if answers else 0.0


def balance(rows: Sequence[_Row], answers: Sequence[str]) -> dict[str, Any]:
    """Yes and no among the answers to yes/no questions."""
    given = Counter(
        answer
        for row, answer in zip(rows, answers, strict=True)
        if answer in ("yes", "no") and question_type(row["question"]) == "yes/no"
    )
    total = given["yes"] + given["no"]
    share = round(given["yes"] / total, 4) if total else None
    return {"yes": given["yes"], "no": given["no"], "yes_share": share}


def _diversity(rows: Sequence[_Row]) -> dict[str, Any]:
    """How varied the questions about one product type are.

    A type's diversity is its number of different questions over its number of rows.
    """
    questions: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        questions[row.get("product_type", "")].append(normalise(row["question"]))
    shares = {t: len(set(asked)) / len(asked) for t, asked in questions.items() if len(asked) >= 10}
    if not shares:
        return {"types": len(questions)}
    least = min(shares, key=lambda t: (shares[t], t))
    return {
        "types": len(questions),
        "least_diverse": least,
        "least_diversity": round(shares[least], 4),
        "median_diversity": round(sorted(shares.values())[len(shares) // 2], 4),
    }


def blind(rows: Sequence[_Row], answers: Sequence[str], seed: int) -> dict[str, float]:
    """Share of the rows that predictors get right without the picture.

    Each is fitted on four fifths of the images and asked about the other fifth, in turn.
    """
    from abo_vqa.models.blind.baselines import by_ngrams, by_question

    questions = [row["question"] for row in rows]  # a blank answer is never told
    folds = image_folds(rows, seed)
    if not folds:
        return {}
    hits = {"question": 0, "ngram": 0}
    few = len(rows) <= _NGRAM_ROWS
    for held_out in folds:
        inside = set(held_out)
        fit = [i for i in range(len(rows)) if i not in inside and answers[i]]
        if not fit:
            continue
        known = [questions[i] for i in fit], [answers[i] for i in fit]
        asked = [questions[i] for i in held_out]
        for name, method in (("question", by_question), ("ngram", by_ngrams)):
            if name == "ngram" and not few:
                continue
            predicted, _ = method(*known)(asked)
            hits[name] += sum(
                p == answers[i] != "" for p, i in zip(predicted, held_out, strict=True)
            )
    if not few:
        del hits["ngram"]
    return {name: round(n / len(rows), 4) for name, n in hits.items()}


def image_folds(rows: Sequence[_Row], seed: int) -> list[list[int]]:
    """Row numbers of each fold, whole images together; [] for fewer images than folds."""
    import random

    by_image: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_image[row["image_path"]].append(i)
    images = sorted(by_image)
    if len(images) < _FOLDS:
        return []
    random.Random(seed).shuffle(images)
    return [[i for image in images[f::_FOLDS] for i in by_image[image]] for f in range(_FOLDS)]


def warnings(found: Mapping[str, Any], yes_share: float | None) -> list[str]:
    """What a person should look at before using the set."""
    said = []
    if found["duplicate_pairs"]:
        said.append(f"{found['duplicate_pairs']:,} rows repeat a question about the same image")
    share = found["yes_no"]["yes_share"]
    enough = found["yes_no"]["yes"] + found["yes_no"]["no"] >= 30
    if yes_share is not None and enough and abs(share - yes_share) > _YES_TOLERANCE:
        said.append(f"{share:.0%} of the yes/no answers are yes; the target is {yes_share:.0%}")
    blindly = max(found["answerable_without_picture"].values(), default=0)
    if blindly > 0.5:
        said.append(f"{blindly:.0%} of the answers can be told without the picture")
    return said
