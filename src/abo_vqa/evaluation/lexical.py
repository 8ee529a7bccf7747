"""Metrics of one prediction against one reference by their words.

The definitions are those that reproduce the published study bit for bit.
"""

from __future__ import annotations

from collections import Counter
from functools import cache, lru_cache

from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import Score

from abo_vqa.data.normalise import normalise_lossy, normalised_words, same_answer, to_nfc


def exact_match(prediction: str, reference: str) -> float:
    """1 if the normalised strings are equal (Rajpurkar et al., 2016, section 6.1).

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        1 or 0; a blank prediction is wrong.
    """
    return float(same_answer(prediction, reference))


def token_match(prediction: str, reference: str) -> float:
    """1 if the normalised strings have the same words equally often, in any order.

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        1 or 0; a blank prediction is wrong.
    """
    tokens = normalised_words(prediction)
    return float(bool(tokens) and Counter(tokens) == Counter(normalised_words(reference)))


def f1(prediction: str, reference: str) -> float:
    """F1 over the sets of normalised words.

    SQuAD's F1 (Rajpurkar et al., 2016, section 6.1) counts repeated words; the study doesn't.

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        A score in [0, 1]; 0 for a blank prediction.
    """
    predicted, expected = set(normalised_words(prediction)), set(normalised_words(reference))
    return _f1(len(predicted & expected), len(predicted), len(expected))


def word_overlap_f1(prediction: str, reference: str) -> float:
    """F1 of lower-cased words: distinct common ones over each side's number of words.

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        A score in [0, 1].
    """
    predicted, expected = (to_nfc(text.lower()).split() for text in (prediction, reference))
    return _f1(len(set(predicted) & set(expected)), len(predicted), len(expected))


def _f1(common: int, predicted: int, expected: int) -> float:
    """Harmonic mean of precision and recall, from three numbers of words."""
    if not common:
        return 0.0
    precision, recall = common / predicted, common / expected
    return 2 * precision * recall / (precision + recall)


@cache
def _rouge_scorer() -> RougeScorer:
    return RougeScorer(["rouge1", "rougeL"], use_stemmer=True)


@lru_cache(1 << 12)
def rouge(prediction: str, reference: str) -> dict[str, Score]:
    """Both ROUGE scores by rouge_score, which tokenizes and stems once for the two.

    Args:
        prediction: a model's answer, raw.
        reference: the right answer, raw.

    Returns:
        rouge_score's result by its names "rouge1" and "rougeL".
    """
    scores: dict[str, Score] = _rouge_scorer().score(to_nfc(reference), to_nfc(prediction))
    return scores


def rouge1(prediction: str, reference: str) -> float:
    """ROUGE-1 F (Lin, 2004) with Porter's stemmer, on the raw strings.

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        A score in [0, 1].
    """
    return float(rouge(prediction, reference)["rouge1"].fmeasure)


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F (Lin, 2004) with Porter's stemmer, on the raw strings.

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        A score in [0, 1].
    """
    return float(rouge(prediction, reference)["rougeL"].fmeasure)


def bleu(prediction: str, reference: str) -> float:
    """Sentence BLEU-4 (Papineni et al., 2002) on normalised words.

    Smoothing is method 1 of Chen & Cherry (2014). One exact word scores 0.178, since it has no
    longer n-grams: for comparison only.

    Args:
        prediction: a model's answer.
        reference: the right answer.

    Returns:
        A score in [0, 1]; 0 if either side has no words.
    """
    hypothesis, tokens = normalise_lossy(prediction).split(), normalise_lossy(reference).split()
    if not hypothesis or not tokens:
        return 0.0
    smoothing = SmoothingFunction().method1
    return float(sentence_bleu([tokens], hypothesis, smoothing_function=smoothing))
