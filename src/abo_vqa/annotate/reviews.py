"""Reviews: what people decided about pairs, and what follows if several of them disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from abo_vqa.annotate.quality_filter import answer_problem
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import normalise
from abo_vqa.data.pairs import REASONS

KEEP, REJECT, CORRECT = "keep", "reject", "correct"

PairKey = tuple[str, str, str]
"""A pair as it was shown: image path, question, answer."""

_COLUMNS = ("image_path", "question", "answer", "decision")


@dataclass(frozen=True)
class Judgement:
    """One person's decision about a pair.

    Attributes:
        decision: keep, reject or correct.
        corrected: the right answer of a pair to correct, else "".
    """

    decision: str
    corrected: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the pair's answer isn't right as it is."""
        return self.decision != KEEP


@dataclass(frozen=True)
class Verdict:
    """What all judgements of a pair come to.

    Attributes:
        decision: keep, reject or correct.
        corrected: the right answer of a pair to correct, else "".
        wrong: 1 if most raters find the answer wrong, 0 if most keep it, 0.5 if as many do either.
    """

    decision: str
    corrected: str
    wrong: float


@dataclass(frozen=True)
class Reviews:
    """All judgements.

    Attributes:
        judgements: pair → rater → judgement; a pair has at least one.
        files: how many files they come from.
    """

    judgements: Mapping[PairKey, Mapping[str, Judgement]] = field(default_factory=dict)
    files: int = 0

    @property
    def raters(self) -> list[str]:
        """The raters' names, sorted."""
        return sorted({rater for votes in self.judgements.values() for rater in votes})

    def verdicts(self) -> dict[PairKey, Verdict]:
        """Return what each pair's judgements come to."""
        return {pair: decide(votes.values()) for pair, votes in self.judgements.items()}


def decide(judgements: Iterable[Judgement]) -> Verdict:
    """Return what the judgements of a pair come to.

    A pair is kept if most raters keep it. Otherwise it is corrected if a single answer was given
    more often than any other and than a reject, and rejected if not: a pair about which people are
    of two minds isn't a clear question.

    Args:
        judgements: at least one, of different raters.
    """
    votes = list(judgements)
    against = [vote for vote in votes if vote.is_wrong]
    share = len(against) / len(votes)
    wrong = 0.5 if share == 0.5 else float(share > 0.5)
    if not wrong:
        return Verdict(KEEP, "", wrong)
    counts = Counter(normalise(vote.corrected) for vote in against)  # "" for a reject
    (best, most), *others = counts.most_common()
    if wrong == 0.5 or not best or (others and others[0][1] == most):
        return Verdict(REJECT, "", wrong)
    spellings = Counter(sorted(v.corrected for v in against if normalise(v.corrected) == best))
    return Verdict(CORRECT, spellings.most_common(1)[0][0], wrong)


def review_files(path: Path) -> list[Path]:
    """Return the CSV files of a review.

    Args:
        path: one file, or a folder: then all files in it that end in .csv, by name.
    """
    return sorted(path.glob("*.csv")) if path.is_dir() else [path]


def read_reviews(paths: Iterable[Path]) -> Reviews:
    """Read what people saved from review pages.

    A file has the columns image_path, question, answer and decision; `corrected` and `rater` may be
    missing. A row without a decision doesn't count. Without a name, a file's rater is called as
    the file.

    Args:
        paths: the files.

    Raises:
        UserError: a file isn't a review, or a rater decided about a pair in two ways.
    """
    judgements: dict[PairKey, dict[str, Judgement]] = {}
    sources: dict[tuple[PairKey, str], Path] = {}
    paths = list(paths)
    for path in paths:
        for pair, rater, judgement in _read_file(path):
            votes = judgements.setdefault(pair, {})
            if votes.setdefault(rater, judgement) != judgement:
                raise UserError(
                    f"{path}: {rater} decided {judgement.decision} about {pair[1]!r} "
                    f"({pair[0]}), but {votes[rater].decision} in {sources[pair, rater]}. "
                    "Keep one of the two decisions."
                )
            sources[pair, rater] = path
    return Reviews(judgements, len(paths))


def _read_file(path: Path) -> list[tuple[PairKey, str, Judgement]]:
    """Return the pairs of a file that have a decision, with their raters.

    Raises:
        UserError: it isn't a review, or a decision or correction can't be used.
    """
    table = read_table(path, _COLUMNS)
    rows = []
    for number, row in enumerate(_strings(table), start=1):
        decision, corrected = row["decision"].strip(), row.get("corrected", "").strip()
        if not decision:
            continue
        place = f"{path}, row {number} ({row['question']!r})"
        if decision not in (KEEP, REJECT, CORRECT):
            raise UserError(
                f"{place}: the decision must be keep, reject or correct, found {decision!r}."
            )
        if decision == CORRECT:
            if problem := answer_problem(corrected):
                raise UserError(
                    f"{place}: the corrected answer {corrected!r} can't be used: "
                    f"{REASONS[problem]}."
                )
            if normalise(corrected) == normalise(row["answer"]):
                decision = KEEP  # only written in another way
        rater = row.get("rater", "").strip() or path.stem
        judgement = Judgement(decision, corrected if decision == CORRECT else "")
        rows.append(((row["image_path"], row["question"], row["answer"]), rater, judgement))
    return rows


def _strings(table: pd.DataFrame) -> list[dict[str, str]]:
    return [{str(k): str(v) for k, v in row.items()} for row in table.to_dict("records")]
