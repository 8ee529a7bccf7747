"""Metrics that look words up in WordNet: METEOR, Wu-Palmer similarity; and lemmatization."""

from __future__ import annotations

from functools import cache

from nltk.corpus.reader.wordnet import Synset
from nltk.stem.porter import PorterStemmer
from nltk.tokenize import word_tokenize
from nltk.translate.meteor_score import meteor_score

from abo_vqa.data.normalise import normalise_lossy
from abo_vqa.evaluation.wordnet import ensure_wordnet
from abo_vqa.evaluation.wordnet_reader import WordNetReader

# Part of speech of single words, as NLTK's tagger gives it, for words it doesn't tag as nouns. The
# tagger's data can't be downloaded everywhere; this table gives the study's rows exactly.
_ADJECTIVES = frozenset(
    """
    average black ceramic clear double down flat formal forward full green high initial limited low
    modern natural neutral olive open polish positive racing red rolling rose serving short single
    small solid unknown vertical white
    """.split()
)
_VERBS = frozenset(
    """
    angled beaded braided brushed checkered curved dancing frosted hammered holding kitten looking
    marbleized painted pen perforated pointed posing quilted reclining renewed ridged rounded
    speckled stacked stitched striped tapered twisted waving wing winged winking
    """.split()
)


def part_of_speech(word: str) -> str:
    """Return a single word's part of speech in WordNet's letters: "a", "v" or "n"."""
    return "a" if word in _ADJECTIVES else "v" if word in _VERBS else "n"


class WordNetLookup:
    """WordNet and Porter's stemmer, each word looked up once.

    It stands in for both objects that NLTK's METEOR takes: `stemmer` and `wordnet`.
    """

    def __init__(self) -> None:
        reader = WordNetReader(ensure_wordnet())
        self.version = str(reader.get_version())
        self.synsets = cache(reader.synsets)
        self.wup_similarity = reader.wup_similarity
        self.stem = cache(PorterStemmer().stem)
        self.morphy = cache(reader.morphy)


@cache
def wordnet_lookup() -> WordNetLookup:
    """Open WordNet, once per process."""
    return WordNetLookup()


@cache
def _tokenize(text: str) -> tuple[str, ...]:
    """The normalised text in the Penn Treebank's tokens, which METEOR is computed on."""
    # Splitting into sentences would need the punkt data.
    return tuple(word_tokenize(normalise_lossy(text), preserve_line=True))


def meteor(prediction: str, reference: str) -> float:
    """METEOR (Banerjee & Lavie, 2005), NLTK's implementation and defaults, on normalised strings.

    Its fragmentation penalty gives an exact one-word match 0.5: for comparison only.

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        A score in [0, 1]; 0 if either side has no words.
    """
    hypothesis, tokens = _tokenize(prediction), _tokenize(reference)
    if not hypothesis or not tokens:
        return 0.0
    lookup = wordnet_lookup()
    return float(meteor_score([tokens], hypothesis, stemmer=lookup, wordnet=lookup))


@cache
def _synsets(word: str) -> tuple[Synset, ...]:
    """Synsets of a word in the part of speech it has on its own; of any if it has none there."""
    synsets = wordnet_lookup().synsets
    return tuple(synsets(word, part_of_speech(word)) or synsets(word))


@cache
def _word_similarity(a: str, b: str) -> float | None:
    """Best Wu-Palmer similarity over two words' synsets, None if there is none."""
    similarity = wordnet_lookup().wup_similarity
    values = (similarity(x, y) for x in _synsets(a) for y in _synsets(b))
    return max((value for value in values if value is not None), default=None)


def wup(prediction: str, reference: str) -> float:
    """Wu-Palmer similarity (Wu & Palmer, 1994) in WordNet, mean over the predicted words.

    For each predicted word the best similarity to any word of the reference; words without one are
    left out. It gives some exact matches 0 and some wrong answers 1: for comparison only.

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        A score in [0, 1]; 0 if no predicted word has a similarity.
    """
    words = normalise_lossy(reference).split()
    best = []
    for word in normalise_lossy(prediction).split():
        values = [s for other in words if (s := _word_similarity(word, other)) is not None]
        if values:
            best.append(max(values))
    return sum(best) / len(best) if best else 0.0


def lemmatize(word: str) -> str:
    """Return a word's base form in WordNet ("stripes" → "stripe"), or the word itself."""
    return str(wordnet_lookup().morphy(word) or word)
