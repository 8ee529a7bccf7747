"""Names and numbers as people read them: labels, percentages, points, intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextvars import ContextVar

from abo_vqa.core.paths import FINETUNED_MODEL, FINETUNED_MODELS, FINETUNED_RANKED
from abo_vqa.core.verify_config import BLIND_VERIFIER

_MINUS = "\N{MINUS SIGN}"
_DASH = "–"  # for a value that is missing
_MODEL_LABELS = {
    "blip": "BLIP",
    "blip2": "BLIP-2",
    "clip-fixed": "CLIP (fixed list)",
    "clip-train": "CLIP (train answers)",
    "clip-all": "CLIP (all answers)",
    "llava": "LLaVA",
    "vilt": "ViLT",
    "paligemma": "PaliGemma",
    "qwen-vl": "Qwen-VL",
    "smolvlm": "SmolVLM",
    "blind-majority": "Blind (majority)",
    "blind-type": "Blind (per type)",
    "blind-question": "Blind (same question)",
    "blind-ngram": "Blind (n-grams)",
}
_METRIC_LABELS = {
    "accuracy": "Accuracy",
    "alias_accuracy": "Accuracy, aliases",
    "exact_match": "Exact match",
    "token_match": "Token match",
    "f1": "F1",
    "word_overlap_f1": "Word overlap F1",
    "meteor": "METEOR",
    "wup": "WUP",
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "bertscore_precision": "BERTScore P",
    "bertscore_recall": "BERTScore R",
    "bertscore_f1": "BERTScore F1",
    "bertscore_f1_rescaled": "BERTScore F1, rescaled",
    "bartscore": "BARTScore",
    "coverage": "Coverage",
    "gain_over_blind": "Gain over blind",
}


# What the fine-tuned model is called depends on the run that a page is about.
_finetuned_base: ContextVar[str] = ContextVar("finetuned_base", default="blip")
MARK = "\N{DOUBLE DAGGER}"
"""Behind the label of a model whose numbers have a footnote; a single dagger marks metrics."""
_marked: ContextVar[frozenset[str]] = ContextVar("marked", default=frozenset())


def name_finetuned(base: str) -> None:
    """Call the fine-tuned model by its base from now on.

    Args:
        base: the name of the model that was fine-tuned.
    """
    _finetuned_base.set(base)


def finetuned_base() -> str:
    """Return the base's name in tables and figures."""
    return unmarked_label(_finetuned_base.get())


def mark_models(models: Iterable[str]) -> None:
    """Mark the labels of some models from now on, and of no others.

    Args:
        models: those whose numbers have a footnote.
    """
    _marked.set(frozenset(models))


def model_label(model: str) -> str:
    """Return a model's name in tables and figures, with a mark if its numbers have a footnote."""
    return unmarked_label(model) + footnote_mark(model)


def footnote_mark(model: str) -> str:
    """Return `MARK` for a model whose numbers have a footnote, else ""."""
    return MARK if model in _marked.get() else ""


def unmarked_label(model: str) -> str:
    """Return a model's name in sentences of their own; an unknown model keeps its own."""
    if model in FINETUNED_MODELS:
        return f"{finetuned_base()} + LoRA" + (", ranked" if model == FINETUNED_RANKED else "")
    return _MODEL_LABELS.get(model, model)


def verifier_label(name: str) -> str:
    """Return the name of one of `verify.models` in sentences."""
    return "the blind predictor" if name == BLIND_VERIFIER else unmarked_label(name)


def model_kind(model: str) -> str:
    """Return `finetuned`, `blind` or `zero-shot`."""
    if model in FINETUNED_MODELS:
        return FINETUNED_MODEL
    return "blind" if model.startswith("blind") else "zero-shot"


def metric_label(metric: str) -> str:
    """Return a metric's name in tables and figures; an unknown metric keeps its own."""
    return _METRIC_LABELS.get(metric, metric)


def _is_missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def count(value: float | None) -> str:
    """Format a whole number: 12345 → 12,345."""
    return _DASH if value is None or math.isnan(value) else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share as a percentage: 0.6709 → 67.1%."""
    return _DASH if value is None or math.isnan(value) else f"{100 * value:.{digits}f}%"


def points(value: float | None, digits: int = 1) -> str:
    """Format a difference of shares in percentage points, signed: 0.2412 → +24.1."""
    if value is None or math.isnan(value):
        return _DASH
    text = f"{100 * value:+.{digits}f}"
    return text.replace("-", _MINUS) if float(text) else f"{0:.{digits}f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """Format a number with a typographic minus sign: -0.98553 → −0.986."""
    if value is None or math.isnan(value):
        return _DASH
    return f"{value:.{digits}f}".replace("-", _MINUS)


def interval_text(bounds: Sequence[float] | None, signed: bool = False) -> str:
    """Format an interval of shares in percent: [0.661, 0.681] → 66.1 to 68.1."""
    if bounds is None or any(map(_is_missing, bounds)):
        return _DASH
    low, high = bounds
    if signed:
        return f"{points(low)} to {points(high)}"
    return f"{100 * low:.1f} to {100 * high:.1f}"


def p_value(value: float | None) -> str:
    """Format a p-value with three digits, or as `< 0.001`."""
    if value is None or math.isnan(value):
        return _DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_value(value: object) -> str:
    """Format a count, a share (strictly between 0 and 1), a boolean or a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if float(value).is_integer():
            return count(value)
        return percent(value) if 0 < value < 1 else decimal(value)
    return str(value)


def slice_label(name: str, value: str) -> str:
    """Describe the rows of a slice: `question_type`, `counting` → counting questions."""
    return {
        "question_type": f"{value} questions",
        "question_subtype": f"{value} questions",
        "answer_type": f"answers of type {value}",
        "answer_words": f"answers of {value} words",
        "answer_frequency": "answers that don't occur in train"
        if value == "0"
        else f"answers that occur {value} times in train",
        "image_rows": f"images with {value} test questions",
        "product_type": value.replace("_", " "),
        "seen_question": "questions that occur in train" if value == "True" else "new questions",
        "seen_pair": "question–answer pairs that occur in train"
        if value == "True"
        else "new question–answer pairs",
    }.get(name, f"{name} {value}".replace("_", " "))


def enumeration(items: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
