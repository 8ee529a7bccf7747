"""Which answers may mean the same, so that none is a distractor of the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from abo_vqa.core.tables import read_table
from abo_vqa.data.normalise import normalise
from abo_vqa.data.questions import answer_type
from abo_vqa.evaluation.wordnet import ensure_wordnet

Equivalence = Callable[[str, str], bool]


def synonym_test(aliases: Path, words: Iterable[str]) -> Equivalence:
    """Return a function that tells whether two normalised answers may mean the same.

    They do if they are equal, aliases, singular and plural, or share a WordNet synset; numbers
    only if they are equal.

    Args:
        aliases: table with the columns answer and alias.
        words: the answers that will be compared.
    """
    table = read_table(aliases, ("answer", "alias")).to_dict("records")
    pairs = {frozenset((normalise(row["answer"]), normalise(row["alias"]))) for row in table}
    synsets = _synsets(set(words))

    def may_mean_the_same(one: str, other: str) -> bool:
        if answer_type(one) == "number" and answer_type(other) == "number":
            return one == other
        return (
            one == other
            or frozenset((one, other)) in pairs
            or (one.rstrip("s") == other.rstrip("s") != "")  # but the letter "s" isn't "ss"
            or bool(synsets.get(one, set()) & synsets.get(other, set()))
        )

    return may_mean_the_same


def _synsets(words: set[str]) -> dict[str, set[str]]:
    """Return WordNet's synsets (part of speech and offset) of each word, from its index files.

    A line of an index is: lemma, part of speech, number of synsets, number of pointer symbols,
    those symbols, two more counts, and the synsets' offsets; see the manual page wndb(5WN).
    """
    root = ensure_wordnet()
    synsets: dict[str, set[str]] = defaultdict(set)
    for part in ("noun", "verb", "adj", "adv"):
        with root.join(f"index.{part}").open() as lines:
            for line in lines.read().decode("utf-8").splitlines():
                if line.startswith(" "):  # the licence
                    continue
                word = line.partition(" ")[0]
                if word in words:
                    fields = line.split()
                    offsets = fields[-int(fields[2]) :]
                    synsets[word] |= {f"{part}{offset}" for offset in offsets}
    return synsets
