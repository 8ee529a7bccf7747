"""Reviews: what people decided about pairs, and what follows if several of them disagree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import pandas as pd

from abo_vqa.annotate.draws import DRAWN_COLUMN, RANDOM, SUSPICIOUS, parse_drawn
from abo_vqa.annotate.quality_filter import answer_problem
from abo_vqa.core.errors import UserError
from abo_vqa.data.columns import read_columns
from abo_vqa.data.normalise import clean_answer, normalise
from abo_vqa.data.pairs import REASONS, PairKey, pair_key

KEEP, REJECT, CORRECT = "keep", "reject", "correct"

_COLUMNS = ("image_path", "question", "answer", "decision")
_MIN_ALIKE = 10  # pairs about which two people hardly decide alike to the letter


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

    def agrees_with(self, other: Judgement) -> bool:
        """Whether both come to the same, however they spell the right answer."""
        same_answer = normalise(self.corrected) == normalise(other.corrected)
        return self.decision == other.decision and same_answer


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
        notes: what a person should know about the files.
        suspicious: the pairs that were drawn only because their answers are suspicious. The others
            were drawn at random, some of them in both ways.
        sources: pair → the files with a decision about it.
    """

    judgements: Mapping[PairKey, Mapping[str, Judgement]] = field(default_factory=dict)
    files: int = 0
    notes: tuple[str, ...] = ()
    suspicious: frozenset[PairKey] = frozenset()
    sources: Mapping[PairKey, Set[Path]] = field(default_factory=dict)

    @property
    def raters(self) -> list[str]:
        """The raters' names, sorted."""
        return sorted(self.raters_of(self.judgements))

    def raters_of(self, pairs: Iterable[PairKey]) -> set[str]:
        """Return the names of those who decided about some of the pairs."""
        return {rater for pair in pairs for rater in self.judgements[pair]}

    def describe_sources(self, pairs: Iterable[PairKey]) -> str:
        """Return which files have a decision about some of the pairs, and about how many.

        Args:
            pairs: those that count.
        """
        counts = Counter(path for pair in pairs for path in self.sources.get(pair, ()))
        return ", ".join(f"{count:,} in {path}" for path, count in sorted(counts.items()))

    def images_left_out(self, drawn: str) -> set[str]:
        """Return the images that aren't drawn for another page.

        Whether an image can be drawn at random mustn't depend on how suspicious it is, or the
        random pairs are a sample of the unsuspicious ones only.

        Args:
            drawn: `RANDOM` for a random page: the images with a pair that was drawn at random.
                `SUSPICIOUS`: all that people have reviewed.
        """
        ignored = self.suspicious if drawn == RANDOM else frozenset()
        return {pair[0] for pair in self.judgements.keys() - ignored}

    def verdicts(self) -> dict[PairKey, Verdict]:
        """Return what each pair's judgements come to.

        If the pair with its corrected answer was reviewed, too, what was decided then counts: a
        corrected answer may be rejected or corrected once more.
        """
        own = self._own_verdicts
        return {pair: _follow(pair, own)[-1][1] for pair in own}

    def corrected_pairs(self, pairs: Iterable[PairKey]) -> set[PairKey]:
        """Return the reviewed pairs that others become by being corrected.

        Args:
            pairs: the others, all of them reviewed.
        """
        steps = [_follow(pair, self._own_verdicts) for pair in pairs]
        return {reached for path in steps for reached, _ in path[1:]}

    def first_pairs(self) -> set[PairKey]:
        """Return the pairs without those that others of them become by being corrected.

        Whoever reviews a corrected answer decides about a pair that is here already. Of pairs that
        are corrected into each other, the one that is read first stays.
        """
        later: set[PairKey] = set()
        for pair in self.judgements:
            if pair not in later:
                later |= self.corrected_pairs([pair]) - {pair}
        return self.judgements.keys() - later

    @cached_property
    def _own_verdicts(self) -> dict[PairKey, Verdict]:
        """What was decided about each pair itself."""
        return {pair: decide(votes.values()) for pair, votes in self.judgements.items()}

    def alike(self) -> list[str]:
        """Return warnings about raters that may be one person under two names."""
        by_rater: dict[str, dict[PairKey, Judgement]] = defaultdict(dict)
        for pair, votes in self.judgements.items():
            for rater, judgement in votes.items():
                by_rater[rater][pair] = judgement
        return [
            f"warning: {one} and {other} decided alike about the same {len(by_rater[one]):,} "
            "pairs. If they are one person, write one name into the column rater of both."
            for one, other in combinations(sorted(by_rater), 2)
            if len(by_rater[one]) >= _MIN_ALIKE and by_rater[one] == by_rater[other]
        ]


def _follow(pair: PairKey, own: Mapping[PairKey, Verdict]) -> list[tuple[PairKey, Verdict]]:
    """Return the pairs that one becomes by being corrected, each with the verdict on the first.

    Args:
        pair: the first.
        own: what was decided about each pair itself.
    """
    wrong = own[pair].wrong
    path = [(pair, own[pair])]
    verdict = own[pair]
    while verdict.decision == CORRECT:
        step = pair_key(*pair[:2], verdict.corrected)
        if step not in own:
            break
        if own[step].decision == KEEP:
            path.append((step, verdict))
            break
        in_circle = step in dict(path)
        verdict = Verdict(REJECT, "", wrong) if in_circle else replace(own[step], wrong=wrong)
        path.append((step, verdict))
    return path


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

    A file has an image, a question, an answer (under any usual names) and a decision; `corrected`,
    `rater` and `drawn` may be missing. A row without a decision doesn't count. Without a name, a
    file's rater is called as the file, with as many of its folders as tell it from the others;
    names in the files that differ in case and blanks alone are one person's. Of files with the same
    content, one counts. A pair that was drawn both at random and because it is suspicious was drawn
    at random.

    Args:
        paths: the files.

    Raises:
        UserError: a file isn't a review, or a rater decided about a pair in two ways.
    """
    judgements: dict[PairKey, dict[str, Judgement]] = {}
    draws: dict[PairKey, set[str]] = {}
    sources: dict[tuple[PairKey, str], Path] = {}
    files: dict[PairKey, set[Path]] = {}
    names: dict[str, str] = {}
    originals, notes = _without_copies(paths)
    unnamed = _file_names(originals)
    for path in originals:
        for row in _read_file(path, unnamed[path]):
            rater = names.setdefault(row.rater.casefold(), row.rater)
            votes = judgements.setdefault(row.pair, {})
            if not votes.setdefault(rater, row.judgement).agrees_with(row.judgement):
                raise UserError(
                    f"{path}: {rater} decided {row.judgement.decision} about {row.place}, but "
                    f"{votes[rater].decision} in {sources[row.pair, rater]}. Keep one of the two "
                    f"decisions; if {rater} saved twice, remove the older file."
                )
            sources[row.pair, rater] = path
            files.setdefault(row.pair, set()).add(path)
            draws.setdefault(row.pair, set()).add(row.drawn)
    suspicious = frozenset(pair for pair, ways in draws.items() if ways == {SUSPICIOUS})
    return Reviews(judgements, len(originals), tuple(notes), suspicious, files)


def _without_copies(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Return the files without those whose content another one has, and a note on each of these."""
    originals: dict[bytes, Path] = {}
    notes = []
    for path in paths:
        content = path.read_bytes() if path.is_file() else bytes(path)  # missing: reading says so
        original = originals.setdefault(content, path)
        if original.absolute() != path.absolute():
            notes.append(
                f"note: {path} has the same content as {original} and counts once. If two people "
                "decided alike, write their names into the column rater."
            )
    return list(originals.values()), notes


def _file_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return what the raters without a name are called: no two files alike, whatever the case."""
    names = {path: path.stem for path in paths}
    folders = {path: list(path.absolute().parent.parts) for path in paths}
    while True:
        counts = Counter(name.casefold() for name in names.values())
        alike = [path for path, name in names.items() if counts[name.casefold()] > 1]
        longer = [path for path in alike if folders[path]]
        if not longer:
            return names
        for path in longer:
            names[path] = f"{folders[path].pop()}/{names[path]}"


@dataclass(frozen=True)
class _Row:
    """A row of a file that has a decision; `place` is for messages."""

    pair: PairKey
    rater: str
    judgement: Judgement
    drawn: str
    place: str


def _read_file(path: Path, unnamed: str) -> list[_Row]:
    """Return the rows of a file that have a decision.

    Args:
        path: the file.
        unnamed: what a rater without a name is called.

    Raises:
        UserError: it isn't a review, or a decision or correction can't be used.
    """
    table = read_columns(path, _COLUMNS).frame
    rows = []
    for number, row in enumerate(_strings(table), start=1):
        if not row["decision"].strip():
            continue
        rater = " ".join(row.get("rater", "").split()) or unnamed
        key = pair_key(row["image_path"], row["question"], row["answer"])
        place = f"{path}, row {number} ({row['question']!r})"
        judgement = _judgement(row, place)
        drawn = parse_drawn(row.get(DRAWN_COLUMN, ""), place)
        rows.append(
            _Row(key, rater, judgement, drawn, f"{row['question']!r} ({row['image_path']})")
        )
    return rows


def _judgement(row: Mapping[str, str], place: str) -> Judgement:
    """Return a row's decision, whatever its case.

    Raises:
        UserError: it isn't one, or its correction can't be used.
    """
    decision = row["decision"].strip().lower()
    corrected = clean_answer(row.get("corrected", ""))
    if decision not in (KEEP, REJECT, CORRECT):
        raise UserError(
            f"{place}: the decision must be keep, reject or correct, found {row['decision']!r}."
        )
    if decision != CORRECT:
        return Judgement(decision)
    if problem := answer_problem(corrected):
        raise UserError(
            f"{place}: the corrected answer {corrected!r} can't be used: {REASONS[problem]}."
        )
    if normalise(corrected) == normalise(row["answer"]):
        return Judgement(KEEP)  # only written in another way
    return Judgement(CORRECT, corrected)


def _strings(table: pd.DataFrame) -> list[dict[str, str]]:
    return [{str(k): str(v) for k, v in row.items()} for row in table.to_dict("records")]
