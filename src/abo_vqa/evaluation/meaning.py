"""Scores that look words up in WordNet: METEOR, Wu-Palmer similarity, base forms."""

from __future__ import annotations

from functools import cache
from typing import Any

from abo_vqa.data.normalise import normalise_lossy

# Part of speech of single words, as NLTK's tagger gives it, for words it doesn't tag as nouns. The
# tagger's data can't be fetched everywhere; this table gives the study's rows exactly.
ADJECTIVES = frozenset(
    """
    average black ceramic clear double down flat formal forward full green high initial limited low
    modern natural neutral olive open polish positive racing red rolling rose serving short single
    small solid unknown vertical white
    """.split()
)
VERBS = frozenset(
    """
    angled beaded braided brushed checkered curved dancing frosted hammered holding kitten looking
    marbleized painted pen perforated pointed posing quilted reclining renewed ridged rounded
    speckled stacked stitched striped tapered twisted waving wing winged winking
    """.split()
)


class _Lookup:
    """WordNet and Porter's stemmer as METEOR asks for them, each word looked up once."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        from abo_vqa.evaluation.dictionary import Dictionary
        from abo_vqa.evaluation.wordnet import ensure_wordnet

        wordnet = Dictionary(ensure_wordnet())
        self.version = str(wordnet.get_version())
        self.synsets = cache(wordnet.synsets)
        self.similarity = wordnet.wup
        self.stem = cache(PorterStemmer().stem)
        self.morphy = cache(wordnet.morphy)


@cache
def lookup() -> _Lookup:
    return _Lookup()


@cache
def split(text: str) -> tuple[str, ...]:
    """The normalised text in the words of the Penn Treebank, which METEOR is computed on."""
    from nltk.tokenize import word_tokenize

    return tuple(
        word_tokenize(normalise_lossy(text), preserve_line=True)
    )  # needs no data; sentences do


def meteor(prediction: str, reference: str) -> float:
    """METEOR (Banerjee & Lavie, 2005), NLTK's defaults, on normalised strings.

    Its fragmentation penalty gives an exact one-word match 0.5: for comparison only.
    """
    from nltk.translate.meteor_score import meteor_score

    said, wanted = split(prediction), split(reference)
    if not said or not wanted:
        return 0.0
    return float(meteor_score([wanted], said, stemmer=lookup(), wordnet=lookup()))


@cache
def _senses(word: str) -> tuple[Any, ...]:
    """Synsets of a word in the part of speech it has on its own; of any if it has none there."""
    find = lookup().synsets
    pos = "a" if word in ADJECTIVES else "v" if word in VERBS else "n"
    return tuple(find(word, pos) or find(word))


@cache
def _word_similarity(said: str, wanted: str) -> float | None:
    """Best Wu-Palmer similarity over the two words' synsets, None if there is none."""
    similarity = lookup().similarity
    found = (similarity(a, b) for a in _senses(said) for b in _senses(wanted))
    return max((value for value in found if value is not None), default=None)


def wup(prediction: str, reference: str) -> float:
    """Wu-Palmer similarity (Wu & Palmer, 1994) in WordNet, mean over the predicted words.

    For each predicted word the best similarity to any word of the reference; words without one are
    left out; 0 if none has one. It gives some exact matches 0 and wrong answers 1: for comparison.
    """
    wanted = normalise_lossy(reference).split()
    best = []
    for word in normalise_lossy(prediction).split():
        found = [s for w in wanted if (s := _word_similarity(word, w)) is not None]
        if found:
            best.append(max(found))
    return sum(best) / len(best) if best else 0.0


def lemma(word: str) -> str:
    """A word's base form in WordNet ("stripes" → "stripe"), or the word."""
    return str(lookup().morphy(word) or word)
