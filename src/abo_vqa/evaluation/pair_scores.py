"""All metrics of many (prediction, reference) pairs, each distinct pair once, with signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abo_vqa.core.fingerprints import file_md5
from abo_vqa.evaluation import lexical, wordnet_metrics
from abo_vqa.evaluation.aliases import alias_matcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import ScorersConfig

_Pair = tuple[str, str]
_TextMetric = Callable[[str, str], float]

TEXT_METRICS: dict[str, _TextMetric] = {
    "exact_match": lexical.exact_match,
    "token_match": lexical.token_match,
    "f1": lexical.f1,
    "word_overlap_f1": lexical.word_overlap_f1,
    "meteor": wordnet_metrics.meteor,
    "wup": wordnet_metrics.wup,
    "rouge1": lexical.rouge1,
    "rougeL": lexical.rouge_l,
    "bleu": lexical.bleu,
}
WORDNET_METRICS = ("meteor", "wup", "alias_accuracy")
_BERTSCORE_METRICS = (
    "bertscore_precision", "bertscore_recall", "bertscore_f1", "bertscore_f1_rescaled",
)  # fmt: skip
_NEURAL_METRICS = (*_BERTSCORE_METRICS, "bartscore")
METRIC_NAMES = (*TEXT_METRICS, *_NEURAL_METRICS)
# A network's outputs differ in the seventh digit between processors; four decimals hide that.
RESULT_DIGITS = dict.fromkeys((*_NEURAL_METRICS, "confidence", "expected_calibration_error"), ".4f")


@dataclass(frozen=True)
class PairScores:
    """Scores of distinct (prediction, reference) pairs, to be looked up for any rows.

    Attributes:
        index: pair → its position in the values.
        values: metric → [distinct].
        signature: metric → how it was computed.
    """

    index: Mapping[_Pair, int]
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    signature: dict[str, str] = field(default_factory=dict)

    def columns(
        self, pairs: Sequence[_Pair], failed: NDArray[np.bool_]
    ) -> dict[str, NDArray[np.float64]]:
        """Look up the scores of rows.

        Args:
            pairs: [n] each row's (prediction, reference).
            failed: [n] rows without an answer.

        Returns:
            metric → [n] scores, NaN where a row failed.
        """
        positions = [self.index[p] for p, bad in zip(pairs, failed, strict=True) if not bad]
        columns = {}
        for name, values in self.values.items():
            columns[name] = np.full(len(failed), np.nan)
            columns[name][~failed] = values[positions]
        return columns


def score_pairs(
    pairs: Iterable[_Pair],
    metrics: Sequence[str],
    *,
    references: Iterable[str] = (),
    scorers: ScorersConfig | None = None,
    alias_table: Path | None = None,
    device: str = "cpu",
) -> PairScores:
    """Compute metrics of every distinct (prediction, reference), on the raw strings.

    Args:
        pairs: the pairs; repeated ones are scored once.
        metrics: names of `METRIC_NAMES`, or "alias_accuracy", which takes an alias table.
        references: answers from which BERTScore's rescaling baseline is estimated where none is
            published for the encoder.
        scorers: the neural metrics' models, if one of these is among the metrics.
        alias_table: the CSV of aliases.
        device: where the neural metrics are computed.

    Returns:
        The scores, with a signature per metric.
    """
    distinct = sorted(set(pairs))  # the same batches, hence the same bytes, in any order of rows
    scores = PairScores({pair: i for i, pair in enumerate(distinct)})
    functions = dict(TEXT_METRICS)
    if alias_table is not None:
        functions["alias_accuracy"] = alias_matcher(alias_table)
    for name in metrics:
        if name in functions:
            values = [functions[name](*pair) for pair in distinct]
            scores.values[name] = np.array(values, dtype=np.float64)
            scores.signature[name] = _text_signature(name, alias_table)
    if scorers is not None:
        if set(metrics) & set(_BERTSCORE_METRICS):
            _add_bertscore(scores, distinct, metrics, references, scorers, device)
        if "bartscore" in metrics:
            _add_bartscore(scores, distinct, scorers, device)
    return scores


def _add_bertscore(
    scores: PairScores,
    distinct: Sequence[_Pair],
    metrics: Sequence[str],
    references: Iterable[str],
    scorers: ScorersConfig,
    device: str,
) -> None:
    """Add the BERTScore metrics that are asked for."""
    from abo_vqa.evaluation.bertscore import BertScore

    scorer = BertScore(scorers.bertscore, device)
    by_pair = scorer.score(distinct)
    values = np.array([by_pair[pair] for pair in distinct]).reshape(-1, 3)
    columns = dict(zip(_BERTSCORE_METRICS, values.T, strict=False))
    signature = dict.fromkeys(_BERTSCORE_METRICS, scorer.signature())
    if "bertscore_f1_rescaled" in metrics:
        baseline = scorer.baseline(references)
        # 0 for unrelated texts, 1 for equal ones, below 0 for worse than unrelated.
        columns["bertscore_f1_rescaled"] = (values[:, 2] - baseline) / (1 - baseline)
        published = scorer.published_baseline() is not None
        how = "published" if published else "mean of 1,000 random pairs of reference answers"
        signature["bertscore_f1_rescaled"] += (
            f"; (F1 - {baseline:.6f}) / (1 - {baseline:.6f}), {how}"
        )
    for name in _BERTSCORE_METRICS:
        if name in metrics:
            scores.values[name] = columns[name]
            scores.signature[name] = signature[name]


def _add_bartscore(
    scores: PairScores, distinct: Sequence[_Pair], scorers: ScorersConfig, device: str
) -> None:
    """Add BARTScore."""
    from abo_vqa.evaluation.bartscore import BartScore

    scorer = BartScore(scorers.bartscore, device)
    by_pair = scorer.score(distinct)
    scores.values["bartscore"] = np.array([by_pair[pair] for pair in distinct], dtype=np.float64)
    scores.signature["bartscore"] = scorer.signature()


def _text_signature(name: str, alias_table: Path | None) -> str:
    """How a metric without a neural model is computed, with the versions that decide its value."""
    nltk = f"NLTK {version('nltk')}"
    rouge = f"rouge_score {version('rouge-score')}, F, Porter's stemmer, raw strings"
    wordnet = ""
    if name in WORDNET_METRICS:
        wordnet = f"WordNet {wordnet_metrics.wordnet_lookup().version}"
    aliases = f"{alias_table.name} (MD5 {file_md5(alias_table)[:8]})" if alias_table else ""
    signatures = {
        "exact_match": "equal after normalisation, over answered rows, empty = 0",
        "token_match": "equal multisets of normalised words",
        "f1": "over the sets of normalised words, empty = 0",
        "word_overlap_f1": "distinct common lower-cased words over each side's number of words",
        "meteor": f"{nltk}, {wordnet}, its defaults, normalised words, empty = 0 (for comparison)",
        "wup": f"{nltk}, {wordnet}, part of speech by table, mean over the predicted words "
        "(for comparison)",
        "rouge1": rouge,
        "rougeL": rouge,
        "bleu": f"{nltk}, sentence BLEU-4, smoothing method 1, normalised words, empty = 0 "
        "(for comparison)",
        "alias_accuracy": f"accuracy that also accepts {aliases} and equal base forms in {wordnet}",
    }
    if name in signatures:
        return signatures[name]
    return (getdoc(TEXT_METRICS[name]) or name).splitlines()[0].rstrip(".")
