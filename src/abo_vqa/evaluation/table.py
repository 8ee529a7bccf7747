"""All metrics of many pairs at once, each distinct pair once, and signatures that say how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.core.fingerprints import file_md5
from abo_vqa.evaluation import aliases, lexical, meaning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.config import ScorersConfig

_Pair = tuple[str, str]
BERTSCORE = ("bertscore_precision", "bertscore_recall", "bertscore_f1", "bertscore_f1_rescaled")
WORDNET = ("meteor", "wup", "alias_accuracy")
LEXICAL: dict[str, lexical.Score] = {
    "exact_match": lexical.exact_match,
    "token_match": lexical.token_match,
    "f1": lexical.f1,
    "word_overlap_f1": lexical.word_overlap_f1,
    "meteor": meaning.meteor,
    "wup": meaning.wup,
    "rouge1": lexical.rouge1,
    "rougeL": lexical.rouge_l,
    "bleu": lexical.bleu,
}
METRICS = (*LEXICAL, *BERTSCORE, "bartscore")


@dataclass(frozen=True)
class Scores:
    """Scores of distinct (prediction, reference) pairs, to be read off for any rows.

    Attributes:
        place: pair → its position in the values.
        values: metric → [distinct].
        signature: metric → how it was computed.
    """

    place: Mapping[_Pair, int]
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    signature: dict[str, str] = field(default_factory=dict)

    def rows(
        self, pairs: Sequence[_Pair], failed: NDArray[np.bool_]
    ) -> dict[str, NDArray[np.float64]]:
        """metric → [n] scores of these rows; NaN where a row failed and so has none."""
        places = [self.place[p] for p, bad in zip(pairs, failed, strict=True) if not bad]
        found = {}
        for name, values in self.values.items():
            found[name] = np.full(len(failed), np.nan)
            found[name][~failed] = values[places]
        return found


def score_pairs(
    pairs: Iterable[_Pair],
    metrics: Sequence[str],
    *,
    references: Iterable[str] = (),
    scorers: ScorersConfig | None = None,
    alias_table: Path | None = None,
    device: str = "cpu",
) -> Scores:
    """The named metrics of every distinct (prediction, reference), on the raw strings.

    Args:
        metrics: of `METRICS`, or "alias_accuracy", which takes an alias table.
        references: answers that a missing rescaling baseline is drawn from.
        scorers: the neural metrics' models, where such a metric is asked for.
    """
    distinct = sorted(set(pairs))  # the same batches, hence the same bytes, in any order of rows
    scores = Scores({pair: i for i, pair in enumerate(distinct)})
    functions: dict[str, Callable[[str, str], float]] = dict(LEXICAL)
    if alias_table is not None:
        table = aliases.read_aliases(alias_table)
        functions["alias_accuracy"] = partial(aliases.accepted, aliases=table)
    for name in metrics:
        if name in functions:
            values = [functions[name](*pair) for pair in distinct]
            scores.values[name] = np.array(values, dtype=np.float64)
            scores.signature[name] = _lexical_signature(name, alias_table)
    if scorers is not None:
        if set(metrics) & set(BERTSCORE):
            _add_bertscore(scores, distinct, metrics, references, scorers, device)
        if "bartscore" in metrics:
            _add_bartscore(scores, distinct, scorers, device)
    return scores


def _add_bertscore(
    scores: Scores,
    distinct: Sequence[_Pair],
    metrics: Sequence[str],
    references: Iterable[str],
    scorers: ScorersConfig,
    device: str,
) -> None:
    from abo_vqa.evaluation.bertscore import BertScore

    scorer = BertScore(scorers.bertscore, device)
    found = scorer.score(distinct)
    values = np.array([found[pair] for pair in distinct]).reshape(-1, 3)
    columns = dict(zip(BERTSCORE, values.T, strict=False))
    made = dict.fromkeys(BERTSCORE, scorer.signature())
    if "bertscore_f1_rescaled" in metrics:
        base = scorer.baseline(references)
        # 0 for unrelated texts, 1 for equal ones, below 0 for worse than unrelated.
        columns["bertscore_f1_rescaled"] = (values[:, 2] - base) / (1 - base)
        published = scorer.published_baseline() is not None
        how = "published" if published else "mean of 1,000 random pairs of reference answers"
        made["bertscore_f1_rescaled"] += f"; (F1 - {base:.6f}) / (1 - {base:.6f}), {how}"
    scores.values.update({name: columns[name] for name in BERTSCORE if name in metrics})
    scores.signature.update({name: made[name] for name in BERTSCORE if name in metrics})


def _add_bartscore(
    scores: Scores, distinct: Sequence[_Pair], scorers: ScorersConfig, device: str
) -> None:
    from abo_vqa.evaluation.bartscore import BartScore

    scorer = BartScore(scorers.bartscore, device)
    found = scorer.score(distinct)
    scores.values["bartscore"] = np.array([found[pair] for pair in distinct], dtype=np.float64)
    scores.signature["bartscore"] = scorer.signature()


def _lexical_signature(name: str, alias_table: Path | None) -> str:
    """How a metric without a neural model is computed, with the versions that decide its value."""
    if name in ("meteor", "wup", "bleu"):
        nltk = f"NLTK {version('nltk')}"
        wordnet = "" if name == "bleu" else f", WordNet {meaning.lookup().version}"
        return {
            "meteor": f"{nltk}{wordnet}, its defaults, normalised words, empty = 0",
            "wup": f"{nltk}{wordnet}, part of speech by table, mean over the predicted words",
            "bleu": f"{nltk}, sentence BLEU-4, smoothing method 1, normalised words, empty = 0",
        }[name] + " (for comparison)"
    wordnet_version = meaning.lookup().version if name == "alias_accuracy" else ""
    rouge = f"rouge_score {version('rouge-score')}, F, Porter's stemmer, raw strings"
    table = f"{alias_table.name} (MD5 {file_md5(alias_table)[:8]})" if alias_table else ""
    return {
        "exact_match": "equal after normalisation, over answered rows, empty = 0",
        "token_match": "equal multisets of normalised words",
        "f1": "over the sets of normalised words, empty = 0",
        "word_overlap_f1": "distinct common lower-cased words over each side's number of words",
        "rouge1": rouge,
        "rougeL": rouge,
        "alias_accuracy": f"accuracy that also accepts {table} and equal base forms in WordNet "
        f"{wordnet_version}",
    }[name]
