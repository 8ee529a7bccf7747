"""Names and numbers as people read them: labels, percentages, points, intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_MINUS = "\N{MINUS SIGN}"
_LABELS = {
    "blip": "BLIP",
    "blip2": "BLIP-2",
    "clip-fixed": "CLIP (fixed list)",
    "clip-train": "CLIP (train answers)",
    "clip-all": "CLIP (all answers)",
    "llava": "LLaVA",
    "vilt": "ViLT",
    "blind-majority": "Blind (majority)",
    "blind-type": "Blind (per type)",
    "blind-question": "Blind (same question)",
    "blind-ngram": "Blind (n-grams)",
    "finetuned": "BLIP + LoRA",
}
METRICS = {
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
# Metrics that say little about one-word answers and are kept for comparison only.
FOR_COMPARISON = ("meteor", "wup", "bleu")


def label(model: str) -> str:
    """A model's name in tables and figures; an unknown one keeps its own."""
    return _LABELS.get(model, model)


def kind(model: str) -> str:
    """`finetuned`, `blind` or `zero-shot`."""
    if model == "finetuned":
        return "finetuned"
    return "blind" if model.startswith("blind") else "zero-shot"


def metric_label(metric: str) -> str:
    return METRICS.get(metric, metric)


def missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def count(value: float | None) -> str:
    """12345 → 12,345."""
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    """0.6709 → 67.1%."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}%"


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points, signed: 0.2412 → +24.1."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{100 * value:+.{digits}f}"
    return text.replace("-", _MINUS) if float(text) else f"{0:.{digits}f}"


def number(value: float | None, digits: int = 3) -> str:
    """0.98553 → 0.986; the minus sign is a real one."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", _MINUS)


def span(bounds: Sequence[float] | None, digits: int = 1, signed: bool = False) -> str:
    """An interval of shares in per cent: [0.661, 0.681] → 66.1 to 68.1."""
    if bounds is None or any(math.isnan(bound) for bound in bounds):
        return "–"
    low, high = bounds
    if signed:
        return f"{points(low, digits)} to {points(high, digits)}"
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"


def p_value(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def plain(value: Any) -> str:
    """A count, a share (strictly between 0 and 1) or a word of a small table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if float(value).is_integer():
            return count(value)
        return percent(value) if 0 < value < 1 else number(value)
    return str(value)


def part(name: str, value: str) -> str:
    """What a slice's rows are: `question_type`, `counting` → counting questions."""
    return {
        "question_type": f"{value} questions",
        "question_subtype": f"{value} questions",
        "answer_type": f"answers of the type {value}",
        "answer_words": f"answers of {value} words",
        "answer_frequency": "answers that train doesn't have"
        if value == "0"
        else f"answers that train has {value} times",
        "image_rows": f"pictures with {value} test questions",
        "product_type": value.replace("_", " "),
        "seen_question": "questions seen in train" if value == "True" else "new questions",
        "seen_pair": f"questions whose answer was {'' if value == 'True' else 'not '}seen in train",
    }.get(name, f"{name} {value}".replace("_", " "))


def listing(items: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
