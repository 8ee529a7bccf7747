"""Multiple choice: plausible wrong answers that frequency doesn't give away.

If wrong answers are drawn evenly, the right one is usually the most frequent of the choices, and a
predictor that never sees the picture does well. Here they are drawn so that, within a form of
question, every choice is equally likely to be the right one: sets of k answers come from
conditional Poisson sampling (Chen, Dempster and Liu, 1994, "Weighted finite population sampling to
maximize entropy") with inclusion probabilities k times the answers' shares. An answer with a
share above 1/k can't be hidden among k choices; what is left to a blind predictor is measured.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.annotate.corpus import image_folds
from abo_vqa.core.errors import UserError
from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import answer_type, question_subtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRIES = 20  # sets drawn before all answers are looked through
_ROUNDS = 200  # of the fit below; it converges geometrically
_SURE = 0.98  # an inclusion probability of 1 would need an infinite weight
_ENOUGH_ROWS, _ENOUGH_ANSWERS = 50, 3  # a question of its own right: so many rows, k times so many

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class _Choices:
    """The options of one row, in the order shown, and the number of the right one."""

    options: list[str]
    answer: int


def same_meaning(aliases: Path, words: Iterable[str]) -> Same:
    """Whether two normalised answers may mean the same: equal, aliases, or WordNet synonyms.

    Args:
        words: the answers that will be compared.
    """
    table = read_table(aliases, ("answer", "alias")).to_dict("records")
    pairs = {frozenset((normalise(row["answer"]), normalise(row["alias"]))) for row in table}
    senses = _synsets(set(words))

    def same(one: str, other: str) -> bool:
        # Two numbers never mean the same, whatever senses they share.
        if answer_type(one) == "number" and answer_type(other) == "number":
            return one == other
        return (
            one == other
            or frozenset((one, other)) in pairs
            or (one.rstrip("s") == other.rstrip("s") != "")  # but the letter "s" isn't "ss"
            or bool(senses.get(one, set()) & senses.get(other, set()))
        )

    return same


def _synsets(words: set[str]) -> dict[str, set[str]]:
    """WordNet's synsets (part of speech and offset) of each word, from its index files.

    A line of an index is: lemma, part of speech, number of synsets, number of pointer symbols,
    those symbols, two more counts, and the synsets' offsets; see the manual page wndb(5WN).
    """
    import nltk

    from abo_vqa.evaluation.wordnet import ensure_wordnet

    ensure_wordnet()
    try:
        root = nltk.data.find("corpora/wordnet")
    except LookupError:
        root = nltk.data.find("corpora/wordnet.zip/wordnet/")
    found: dict[str, set[str]] = defaultdict(set)
    for part in ("noun", "verb", "adj", "adv"):
        with root.join(f"index.{part}").open() as lines:
            for line in lines.read().decode("utf-8").splitlines():
                if line.startswith(" "):  # the licence
                    continue
                word = line.partition(" ")[0]
                if word in words:
                    fields = line.split()
                    offsets = fields[-int(fields[2]) :]
                    found[word] |= {f"{part}{offset}" for offset in offsets}
    return found


def elementary(weights: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Elementary symmetric polynomials of the first 0, 1, … n weights.

    Returns:
        [i, j] = e_j of weights[:i], the sum over all its subsets of j; shape (n + 1, k + 1).
    """
    sums = np.zeros((len(weights) + 1, k + 1))
    sums[:, 0] = 1.0
    for row, weight in enumerate(weights, 1):
        sums[row, 1:] = sums[row - 1, 1:] + weight * sums[row - 1, :-1]
    return sums


def inclusion(weights: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Probability of each item to be in a set of k drawn with P(set) ∝ its weights' product.

    e_(k-1) of the others is put together from what lies before and after an item. Taking the item
    out of the whole sum is shorter, but cancels to nonsense from a dozen choices on.
    """
    before = elementary(weights, k)
    after = elementary(weights[::-1], k)[::-1]  # [i] is of weights[i:]
    others = (before[:-1, :k] * after[1:, k - 1 :: -1]).sum(axis=1)
    found: NDArray[np.float64] = weights * others / before[-1, k]
    return found


def fit_weights(shares: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Weights under which each item is in a set of k with probability k times its share.

    Shares above 1/k are cut to what is possible, the rest takes up the difference.
    """
    if len(shares) <= k:
        return np.ones(len(shares))
    wanted = k * shares / shares.sum()
    for _ in range(len(shares)):
        over = wanted > _SURE
        free = k - _SURE * over.sum()
        rest = wanted[~over].sum()
        wanted = np.where(over, _SURE, wanted * free / rest if rest else wanted)
        if not (wanted > _SURE + 1e-12).any():
            break
    weights: NDArray[np.float64] = wanted.copy()
    for _ in range(_ROUNDS):
        weights *= wanted / np.maximum(inclusion(weights, k), 1e-12)
        weights /= weights.mean()
    return weights


class Sets:
    """Sets of k of n items, drawn with P(set) ∝ the product of its items' weights."""

    def __init__(self, weights: NDArray[np.float64], k: int) -> None:
        n = len(weights)
        self.k = min(k, n)
        # [j, n - i] = e_j of weights[i:]: grows along a row, as bisection wants it
        self.sums = np.ascontiguousarray(elementary(weights[::-1], self.k).T)

    def draw(self, chance: random.Random) -> list[int]:
        """Indices in ascending order.

        With j items to go from place i on, none of i, …, m - 1 is taken with probability
        e_j(weights[m:]) / e_j(weights[i:]): the next item is found by bisection.
        """
        taken: list[int] = []
        n = rest = self.sums.shape[1] - 1
        for j in range(self.k, 0, -1):
            level = chance.random() * self.sums[j, rest]
            # The largest rest that still has at most this much: one before it, an item is taken.
            after = int(np.searchsorted(self.sums[j, : rest + 1], level, side="right")) - 1
            taken.append(n - after - 1)
            rest = after
        return taken


class Chooser:
    """Makes the choices of a whole set.

    Args:
        rows: with image_path, question, answer.
        k: choices a row; an answer yes or no has two.
        same: whether two answers may mean the same.
    """

    def __init__(self, rows: Sequence[Mapping[str, str]], k: int, seed: int, same: Same) -> None:
        if not 2 <= k <= 26:
            raise UserError(f"--choices {k}: from 2 to 26.")
        self.k, self.seed, self.same = k, seed, same
        self.forms = _forms_of(rows, k)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for row, form in zip(rows, self.forms, strict=True):
            counts[form][normalise(row["answer"])] += 1
        self.overall: Counter[str] = Counter()
        for found in counts.values():
            self.overall.update(found)
        self.answers = {form: sorted(found) for form, found in counts.items()}
        self.weights = {
            form: fit_weights(np.array([counts[form][a] for a in self.answers[form]], float), k)
            for form in counts
        }
        self.sets = {form: Sets(weights, k - 1) for form, weights in self.weights.items()}
        # One spelling an answer, the most frequent: "3" among "one", "two" would stand out.
        spelt: dict[str, Counter[str]] = defaultdict(Counter)
        for row in rows:
            spelt[normalise(row["answer"])][row["answer"]] += 1
        self.spelling = {
            answer: min(found, key=lambda text: (-found[text], text))
            for answer, found in spelt.items()
        }
        # Another right answer to the same question about the same image is no distractor.
        self.right: dict[tuple[str, str], set[str]] = defaultdict(set)
        for row in rows:
            self.right[row["image_path"], normalise(row["question"])].add(normalise(row["answer"]))

    def choose(self, number: int, row: Mapping[str, str]) -> _Choices:
        """The choices of row `number`."""
        chance = random.Random(f"{self.seed}:{row['image_path']}:{row['question']}")
        answer = normalise(row["answer"])
        if answer in ("yes", "no"):  # whatever the question looks like: there is no third
            wrong = ["no" if answer == "yes" else "yes"]
        else:
            wrong = self.distractors(self.forms[number], row, answer, chance)
        options = [*wrong, answer]
        chance.shuffle(options)
        spelt = [self.spelling.get(option, option) for option in options]
        return _Choices(spelt, options.index(answer))

    def distractors(
        self, form: str, row: Mapping[str, str], answer: str, chance: random.Random
    ) -> list[str]:
        """k - 1 wrong answers, of the same type, from the same form of question if it has them."""
        asked = set(normalise(row["question"]).split())
        right = self.right[row["image_path"], normalise(row["question"])]

        def fits(other: str, chosen: Sequence[str] = ()) -> bool:
            return (
                bool(other)
                and other not in asked
                and answer_type(other) == answer_type(answer)
                and not any(self.same(other, known) for known in (*right, answer, *chosen))
            )

        found = self.drawn(form, fits, chance)
        # A form with too few answers borrows from the others, the most frequent first.
        for other, _ in self.overall.most_common():
            if len(found) == self.k - 1:
                break
            if fits(other, found):
                found.append(other)
        if len(found) < self.k - 1:
            raise UserError(
                f"--choices {self.k}: only {len(found)} wrong answers fit {row['question']!r} "
                f"({row['answer']!r}). Ask for fewer choices, or generate a larger set."
            )
        return found

    def drawn(self, form: str, fits: Callable[..., bool], chance: random.Random) -> list[str]:
        """Up to k - 1 of a form's answers that fit the row and don't mean the same.

        Sets with an answer that doesn't fit are drawn again. That is as if sets were drawn from
        the answers that fit, which is what is done where too many have to be thrown away.
        """
        names = self.answers[form]
        found = self.fitting(self.sets[form], names, fits, chance)
        if len(found) < self.k - 1:
            pool = [i for i, other in enumerate(names) if fits(other)]
            if pool:
                sets = Sets(self.weights[form][pool], self.k - 1)
                found = self.fitting(sets, [names[i] for i in pool], fits, chance)
        return found

    def fitting(
        self, sets: Sets, names: Sequence[str], fits: Callable[..., bool], chance: random.Random
    ) -> list[str]:
        """A set whose answers all fit, or the largest part of one that was met."""
        best: list[str] = []
        for _ in range(_TRIES):
            kept: list[str] = []
            for i in sets.draw(chance):
                if fits(names[i], kept):
                    kept.append(names[i])
            if len(kept) == sets.k:
                return kept
            best = max(best, kept, key=len)
        return best


def _forms_of(rows: Sequence[Mapping[str, str]], k: int) -> list[str]:
    """The form of each row's question: the question itself if it is frequent, else its type."""
    asked: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        asked[normalise(row["question"])].append(normalise(row["answer"]))
    own = {
        question
        for question, answers in asked.items()
        if len(answers) >= _ENOUGH_ROWS and len(set(answers)) >= _ENOUGH_ANSWERS * k
    }
    forms = []
    for row in rows:
        question = normalise(row["question"])
        kind = f"{question_subtype(row['question'])}/{answer_type(normalise(row['answer']))}"
        forms.append(question if question in own else kind)
    return forms


def blind_accuracy(
    rows: Sequence[Mapping[str, str]], choices: Sequence[_Choices], seed: int
) -> dict[str, float]:
    """How well frequency does on the choices: cross-fitted over images, without the picture.

    Returns:
        `question`: the choice given most often to the same question, else to its type;
        `type`: the choice given most often to questions of its type; `chance`: by luck.
    """
    questions = [normalise(row["question"]) for row in rows]
    kinds = [question_subtype(row["question"]) for row in rows]
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
                by_type[kinds[i], answers[i]] += 1
        for i in held_out:
            options = [normalise(option) for option in choices[i].options]
            general = [by_type[kinds[i], option] for option in options]
            special = [
                (by_question[questions[i], o], g) for o, g in zip(options, general, strict=True)
            ]
            hits["type"] += general.index(max(general)) == choices[i].answer
            hits["question"] += special.index(max(special)) == choices[i].answer
    total = max(1, len(rows))
    chance = sum(1 / len(choice.options) for choice in choices) / total
    blind = {name: round(n / total, 4) for name, n in hits.items()} if folds else {}
    return {**blind, "chance": round(chance, 4)}
