"""All metrics of many pairs at once, the alias table, and signatures that say how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.io import file_md5, read_table
from abo_vqa.metrics.lexical import LEXICAL
from abo_vqa.metrics.normalise import norm

if TYPE_CHECKING:
    from abo_vqa.config import Scorers

Pair = tuple[str, str]
COMPARISON = " (for comparison)"


def score_pairs(
    pairs: Sequence[Pair], references: Sequence[str], scorers: Scorers | None
) -> tuple[dict[str, dict[Pair, float]], dict[str, str]]:
    """Every metric of every distinct (prediction, reference).

    Args:
        pairs: raw strings. references: answers that a missing rescaling baseline is drawn from.
        scorers: the neural metrics' models; None leaves them out.
    Returns:
        metric → pair → score, and the neural metrics' signatures.
    """
    distinct = list(dict.fromkeys(pairs))
    values: dict[str, dict[Pair, float]] = {
        name: {pair: score(*pair) for pair in distinct} for name, score in LEXICAL.items()
    }
    if scorers is None:
        return values, {}
    from abo_vqa.metrics.neural import BartScore, BertScore

    device = pick_device()
    bert = BertScore(scorers.bertscore, device)
    found = bert.score(distinct)
    for position, name in enumerate(BertScore.names):
        values[name] = {pair: score[position] for pair, score in found.items()}
    base = bert.baseline(references)
    values["bertscore_f1_rescaled"] = {
        pair: (score[2] - base) / (1 - base) for pair, score in found.items()
    }
    values["bartscore"] = BartScore(scorers.bartscore, device).score(distinct)
    library = f"bert_score {version('bert_score')}, transformers {version('transformers')}"
    encoder = (
        f"{scorers.bertscore.path} L{scorers.bertscore.layer}, no idf, norm strings; {library}"
    )
    made = dict.fromkeys(BertScore.names, encoder)
    made["bertscore_f1_rescaled"] = f"(F1 - {base:.4f}) / (1 - {base:.4f}); {encoder}"
    made["bartscore"] = (
        f"{scorers.bartscore.path}, mean log-likelihood of the raw reference given the raw "
        f"prediction, empty ones too; transformers {version('transformers')}"
    )
    return values, made


def pick_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def signatures(aliases: Path) -> dict[str, str]:
    """How each lexical metric is computed, with the versions that decide its value."""
    nltk, rouge = f"NLTK {version('nltk')}", f"rouge_score {version('rouge-score')}"
    return {
        "accuracy": "exact match after norm; a failed row counts as wrong",
        "alias_accuracy": f"accuracy, aliases ({file_md5(aliases)[:8]}) and equal lemmas accepted",
        "exact_match": "equal after norm, over answered rows",
        "token_match": "equal multisets of norm's words",
        "f1": "over sets of norm's words, both empty = 1",
        "word_overlap_f1": "lower-cased words, distinct common ones over each side's count",
        "meteor": f"{nltk}, defaults, norm's words, WordNet 3.0{COMPARISON}",
        "wup": f"{nltk}, WordNet 3.0, word class by table, mean over said words{COMPARISON}",
        "rouge1": f"{rouge}, stemmer",
        "rougeL": f"{rouge}, stemmer",
        "bleu": f"{nltk}, sentence BLEU-4, smoothing method 1, norm's words{COMPARISON}",
    }


def read_aliases(path: Path) -> dict[str, set[str]]:
    """Normalised answer → what is accepted for it, both ways round."""
    table = read_table(path, ("answer", "alias"))
    found: dict[str, set[str]] = {}
    for answer, alias in zip(table["answer"], table["alias"], strict=True):
        found.setdefault(norm(answer), set()).add(norm(alias))
        found.setdefault(norm(alias), set()).add(norm(answer))
    return found


@cache
def lemma(word: str) -> str:
    """A word's base form in WordNet ("stripes" → "stripe"), or the word."""
    from nltk.corpus import wordnet

    return str(wordnet.morphy(word) or word)


def accept_aliases(prediction: str, reference: str, aliases: Mapping[str, set[str]]) -> float:
    """1 if equal after norm, an alias, or equal in lemmas word by word."""
    said, wanted = norm(prediction), norm(reference)
    if said == wanted or said in aliases.get(wanted, ()):
        return 1.0
    return float([lemma(w) for w in said.split()] == [lemma(w) for w in wanted.split()])
