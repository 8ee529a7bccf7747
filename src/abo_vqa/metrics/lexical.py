"""Scores of one prediction against one reference by their words.

The definitions are those that reproduce the published study bit for bit. Each is a function of two
strings; `over_unique_pairs` applies one to arrays, once per distinct pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from abo_vqa.metrics.normalise import norm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Score = Callable[[str, str], float]


def exact_match(prediction: str, reference: str) -> float:
    """1 if the normalised strings are equal."""
    return float(norm(prediction) == norm(reference))


def token_match(prediction: str, reference: str) -> float:
    """1 if the normalised strings have the same words equally often, in any order."""
    return float(Counter(norm(prediction).split()) == Counter(norm(reference).split()))


def f1(prediction: str, reference: str) -> float:
    """F1 over the sets of normalised words; two empty sets are equal, hence 1."""
    said, wanted = set(norm(prediction).split()), set(norm(reference).split())
    if not said and not wanted:
        return 1.0
    common = len(said & wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def word_overlap_f1(prediction: str, reference: str) -> float:
    """F1 of lower-cased words: distinct common ones over each side's number of words."""
    said, wanted = prediction.lower().split(), reference.lower().split()
    common = len(set(said) & set(wanted))
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def meteor(prediction: str, reference: str) -> float:
    """METEOR (Banerjee & Lavie, 2005), NLTK's defaults, on normalised strings.

    Its fragmentation penalty gives an exact one-word match 0.5: for comparison only.
    """
    from nltk.tokenize import word_tokenize
    from nltk.translate.meteor_score import meteor_score

    said, wanted = (word_tokenize(norm(s), preserve_line=True) for s in (prediction, reference))
    return float(meteor_score([wanted], said)) if said and wanted else 0.0


def bleu(prediction: str, reference: str) -> float:
    """Sentence BLEU-4 (Papineni et al., 2002), method-1 smoothing, on normalised words.

    One exact word scores 0.178, since it has no longer n-grams: for comparison only.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    said, wanted = norm(prediction).split(), norm(reference).split()
    if not said or not wanted:
        return 0.0
    return float(sentence_bleu([wanted], said, smoothing_function=SmoothingFunction().method1))


@cache
def rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], use_stemmer=True)


def rouge1(prediction: str, reference: str) -> float:
    """ROUGE-1 F (Lin, 2004) with Porter's stemmer."""
    return float(rouge_scorer().score(reference, prediction)["rouge1"].fmeasure)


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F (Lin, 2004) with Porter's stemmer."""
    return float(rouge_scorer().score(reference, prediction)["rougeL"].fmeasure)


# Part of speech of single words, as NLTK's tagger gives it, for words it doesn't tag as nouns. The
# tagger's data can't be fetched everywhere; this table gives the study's rows exactly.
ADJECTIVES = frozenset(
    [
        "average",
        "black",
        "ceramic",
        "clear",
        "double",
        "down",
        "flat",
        "formal",
        "forward",
        "full",
        "green",
        "high",
        "initial",
        "limited",
        "low",
        "modern",
        "natural",
        "neutral",
        "olive",
        "open",
        "polish",
        "positive",
        "racing",
        "red",
        "rolling",
        "rose",
        "serving",
        "short",
        "single",
        "small",
        "solid",
        "unknown",
        "vertical",
        "white",
    ]
)
VERBS = frozenset(
    [
        "angled",
        "beaded",
        "braided",
        "brushed",
        "checkered",
        "curved",
        "dancing",
        "frosted",
        "hammered",
        "holding",
        "kitten",
        "looking",
        "marbleized",
        "painted",
        "pen",
        "perforated",
        "pointed",
        "posing",
        "quilted",
        "reclining",
        "renewed",
        "ridged",
        "rounded",
        "speckled",
        "stacked",
        "stitched",
        "striped",
        "tapered",
        "twisted",
        "waving",
        "wing",
        "winged",
        "winking",
    ]
)


@cache
def synsets(word: str) -> tuple[Any, ...]:
    """Synsets of a word in the part of speech it has on its own; of any if it has none there."""
    from nltk.corpus import wordnet

    pos = "a" if word in ADJECTIVES else "v" if word in VERBS else "n"
    return tuple(wordnet.synsets(word, pos) or wordnet.synsets(word))


@cache
def word_similarity(said: str, wanted: str) -> float | None:
    """Best Wu-Palmer similarity over the two words' synsets, None if there is none."""
    found = (a.wup_similarity(b) for a in synsets(said) for b in synsets(wanted))
    return max((value for value in found if value is not None), default=None)


def wup(prediction: str, reference: str) -> float:
    """Wu-Palmer similarity (Wu & Palmer, 1994) in WordNet 3.0, mean over the predicted words.

    For each predicted word the best similarity to any word of the reference; words without one are
    left out; 0 if none has one. It gives some exact matches 0 and wrong answers 1: for comparison.
    """
    wanted = norm(reference).split()
    best = []
    for word in norm(prediction).split():
        found = [s for w in wanted if (s := word_similarity(word, w)) is not None]
        if found:
            best.append(max(found))
    return sum(best) / len(best) if best else 0.0


LEXICAL: dict[str, Score] = {
    "exact_match": exact_match,
    "token_match": token_match,
    "f1": f1,
    "word_overlap_f1": word_overlap_f1,
    "meteor": meteor,
    "wup": wup,
    "rouge1": rouge1,
    "rougeL": rouge_l,
    "bleu": bleu,
}


def over_unique_pairs(
    score: Score, predictions: Sequence[str], references: Sequence[str]
) -> NDArray[np.float64]:
    """[n] scores of n pairs, computed once for each distinct pair: short answers repeat a lot."""
    import numpy as np

    pairs = list(zip(predictions, references, strict=True))
    values = {pair: score(*pair) for pair in dict.fromkeys(pairs)}
    return np.array([values[pair] for pair in pairs], dtype=np.float64)
