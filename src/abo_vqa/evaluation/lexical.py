"""Scores of one prediction against one reference by their words.

The definitions are those that reproduce the published study bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from abo_vqa.data.normalise import normalise_lossy, normalised_words, same_answer, to_nfc

Score = Callable[[str, str], float]


def exact_match(prediction: str, reference: str) -> float:
    """1 if the normalised strings are equal; a blank prediction is wrong."""
    return float(same_answer(prediction, reference))


def token_match(prediction: str, reference: str) -> float:
    """1 if the normalised strings have the same words equally often, in any order."""
    said = normalised_words(prediction)
    return float(bool(said) and Counter(said) == Counter(normalised_words(reference)))


def f1(prediction: str, reference: str) -> float:
    """F1 over the sets of normalised words; 0 for a blank prediction."""
    said, wanted = set(normalised_words(prediction)), set(normalised_words(reference))
    common = len(said & wanted)
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def word_overlap_f1(prediction: str, reference: str) -> float:
    """F1 of lower-cased words: distinct common ones over each side's number of words."""
    said, wanted = (to_nfc(text.lower()).split() for text in (prediction, reference))
    common = len(set(said) & set(wanted))
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], use_stemmer=True)


@lru_cache(1 << 12)
def rouge(prediction: str, reference: str) -> dict[str, Any]:
    """Both ROUGE scores: the library splits and stems once for the two."""
    found: dict[str, Any] = _rouge_scorer().score(to_nfc(reference), to_nfc(prediction))
    return found


def rouge1(prediction: str, reference: str) -> float:
    """ROUGE-1 F (Lin, 2004) with Porter's stemmer, on the raw strings."""
    return float(rouge(prediction, reference)["rouge1"].fmeasure)


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F (Lin, 2004) with Porter's stemmer, on the raw strings."""
    return float(rouge(prediction, reference)["rougeL"].fmeasure)


def bleu(prediction: str, reference: str) -> float:
    """Sentence BLEU-4 (Papineni et al., 2002), method-1 smoothing, on normalised words.

    One exact word scores 0.178, since it has no longer n-grams: for comparison only.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    said, wanted = normalise_lossy(prediction).split(), normalise_lossy(reference).split()
    if not said or not wanted:
        return 0.0
    return float(sentence_bleu([wanted], said, smoothing_function=SmoothingFunction().method1))
