"""All metrics of many (prediction, reference) pairs, each distinct pair once, with signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abo_vqa.core.engine.work import RunMap
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.progress import progress_bar
from abo_vqa.evaluation import lexical, wordnet_metrics
from abo_vqa.evaluation.aliases import alias_matcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abo_vqa.core.config import ScorerConfig, ScorersConfig
    from abo_vqa.evaluation.bartscore import BartScore
    from abo_vqa.evaluation.bertscore import BertScore

_Pair = tuple[str, str]
_Batch = Sequence[_Pair]
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

BATCH_PAIRS = 20_000
"""Pairs that are scored at a time, and sent to another process together."""


@dataclass(frozen=True)
class PairScores:
    """Scores of distinct (prediction, reference) pairs, to be looked up for any rows.

    Attributes:
        distinct: the pairs, sorted.
        values: metric → [distinct].
        signature: metric → how it was computed.
    """

    distinct: Sequence[_Pair]
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    signature: dict[str, str] = field(default_factory=dict)

    def columns(self, positions: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Look up the scores of rows.

        Args:
            positions: [n] of each row's pair among the distinct ones; -1 for a row that failed.

        Returns:
            metric → [n] scores, NaN where a row failed.
        """
        failed = positions < 0
        return {
            name: np.where(failed, np.nan, values[positions] if len(values) else np.nan)
            for name, values in self.values.items()
        }


def score_pairs(
    pairs: Iterable[_Pair],
    metrics: Sequence[str],
    *,
    references: Iterable[str] = (),
    scorers: ScorersConfig | None = None,
    alias_table: Path | None = None,
    device: str = "cpu",
    run: RunMap = map,
) -> PairScores:
    """Compute metrics of every distinct (prediction, reference), on the raw strings.

    Args:
        pairs: the pairs; repeated ones are scored once.
        metrics: names of `METRIC_NAMES`, or "alias_accuracy", which takes an alias table.
        references: answers from which BERTScore's rescaling baseline is estimated where none is
            published for the encoder.
        scorers: the neural metrics' models, if one of these is among the metrics.
        alias_table: the CSV of aliases.
        device: where the neural metrics are computed; see `pick_device`.
        run: applies a function to batches of pairs, in their order. The function can be pickled
            and the batches are formed before, so other processes may do it with the same result.

    Returns:
        The scores, with a signature per metric.
    """
    distinct = sorted(set(pairs))  # the same batches, hence the same bytes, in any order of rows
    scores = PairScores(distinct)
    names = [
        name
        for name in metrics
        if name in TEXT_METRICS or (name == "alias_accuracy" and alias_table is not None)
    ]
    function = partial(score_texts, metrics=names, alias_table=alias_table)
    values = np.concatenate([np.empty((0, len(names))), *_scored(run, function, distinct)])
    for name, column in zip(names, values.T, strict=True):
        scores.values[name] = np.ascontiguousarray(column)
        scores.signature[name] = _text_signature(name, alias_table)
    if scorers is not None:
        if set(metrics) & set(_BERTSCORE_METRICS):
            _add_bertscore(scores, metrics, references, scorers, device, run)
        if "bartscore" in metrics:
            _add_bartscore(scores, scorers, device, run)
    return scores


def _scored(
    run: RunMap, function: Callable[[Sequence[_Pair]], Any], distinct: Sequence[_Pair]
) -> Iterator[Any]:
    """Score batches of pairs, with a bar if that takes long."""
    with progress_bar(len(distinct), desc="text metrics", unit="pair", delay=5, leave=False) as bar:
        batches = _batches(distinct)
        for batch, values in zip(batches, run(function, batches), strict=True):
            yield values
            bar.update(len(batch))


def _batches(distinct: Sequence[_Pair]) -> list[Sequence[_Pair]]:
    return [distinct[i : i + BATCH_PAIRS] for i in range(0, len(distinct), BATCH_PAIRS)]


def score_texts(
    pairs: Sequence[_Pair], metrics: Sequence[str], alias_table: Path | None
) -> NDArray[np.float64]:
    """Compute metrics that need no model.

    Args:
        pairs: (prediction, reference).
        metrics: names of `TEXT_METRICS`, or "alias_accuracy".
        alias_table: the CSV of aliases.

    Returns:
        [pairs, metrics].
    """
    functions = dict(TEXT_METRICS)
    if "alias_accuracy" in metrics and alias_table is not None:
        functions["alias_accuracy"] = alias_matcher(alias_table)
    chosen = [functions[name] for name in metrics]
    values = [[function(*pair) for function in chosen] for pair in pairs]
    return np.array(values, dtype=np.float64).reshape(len(pairs), len(metrics))


def score_with_bertscore(
    pairs: Sequence[_Pair], scorer: ScorerConfig, device: str
) -> NDArray[np.float64]:
    """Compute BERTScore.

    Args:
        pairs: distinct (prediction, reference).
        scorer: its model.
        device: where to compute.

    Returns:
        [pairs, 3]: precision, recall and F1.
    """
    by_pair = _bertscore(scorer.model_dump_json(), device).score(pairs)
    return np.array([by_pair[pair] for pair in pairs], dtype=np.float64).reshape(-1, 3)


def score_with_bartscore(
    pairs: Sequence[_Pair], scorer: ScorerConfig, device: str
) -> NDArray[np.float64]:
    """Compute BARTScore.

    Args:
        pairs: distinct (prediction, reference).
        scorer: its model.
        device: where to compute.

    Returns:
        [pairs].
    """
    by_pair = _bartscore(scorer.model_dump_json(), device).score(pairs)
    return np.array([by_pair[pair] for pair in pairs], dtype=np.float64)


@lru_cache(1)  # a process that scores batch after batch loads the model once
def _bertscore(scorer: str, device: str) -> BertScore:
    from abo_vqa.core.config import ScorerConfig
    from abo_vqa.core.devices import pick_device  # imports torch
    from abo_vqa.evaluation import bertscore

    settings = ScorerConfig.model_validate_json(scorer)
    return bertscore.BertScore(settings, str(pick_device(device)))


@lru_cache(1)
def _bartscore(scorer: str, device: str) -> BartScore:
    from abo_vqa.core.config import ScorerConfig
    from abo_vqa.core.devices import pick_device  # imports torch
    from abo_vqa.evaluation import bartscore

    settings = ScorerConfig.model_validate_json(scorer)
    return bartscore.BartScore(settings, str(pick_device(device)))


def _add_bertscore(
    scores: PairScores,
    metrics: Sequence[str],
    references: Iterable[str],
    scorers: ScorersConfig,
    device: str,
    run: RunMap,
) -> None:
    """Add the BERTScore metrics that are asked for."""
    function = partial(score_with_bertscore, scorer=scorers.bertscore, device=device)
    values = np.concatenate([np.empty((0, 3)), *run(function, _batches(scores.distinct))])
    scorer = _bertscore(scorers.bertscore.model_dump_json(), device)
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
    _bertscore.cache_clear()  # its memory is the next metric's
    for name in _BERTSCORE_METRICS:
        if name in metrics:
            scores.values[name] = np.ascontiguousarray(columns[name])
            scores.signature[name] = signature[name]


def _add_bartscore(scores: PairScores, scorers: ScorersConfig, device: str, run: RunMap) -> None:
    """Add BARTScore."""
    function = partial(score_with_bartscore, scorer=scorers.bartscore, device=device)
    values = [np.empty(0), *run(function, _batches(scores.distinct))]
    scorer = _bartscore(scorers.bartscore.model_dump_json(), device)
    scores.values["bartscore"] = np.concatenate(values)
    scores.signature["bartscore"] = scorer.signature()
    _bartscore.cache_clear()


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
