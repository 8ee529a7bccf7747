"""What the numbers say, in sentences: the conclusion and a few further findings."""

from __future__ import annotations

from abo_vqa.core.paths import FINETUNED_MODEL, FINETUNED_MODELS
from abo_vqa.reporting.formatting import (
    count,
    enumeration,
    finetuned_base,
    interval_text,
    model_kind,
    model_label,
    percent,
    points,
    slice_label,
)
from abo_vqa.reporting.inputs import Results

_WORST_SLICES = 3  # named in the text


def conclusion(results: Results) -> str:
    """Return the answer in one sentence."""
    model = results.primary_model
    n = count(results.metrics[model].get("n", 0))
    accuracy = percent(results.metrics[model]["accuracy"])
    bounds = results.interval(model)
    interval = f" ({results.level} interval {interval_text(bounds)})" if bounds else ""
    tuned = f"{finetuned_base()} fine-tuned with LoRA"
    subject = tuned if model == FINETUNED_MODEL else model_label(model)
    questions = "held-out questions" if results.external is None else "questions"
    sentence = f"{subject} answers {accuracy} of {n} {questions} exactly{interval}"
    comparisons = []
    if results.best_zero_shot and model == FINETUNED_MODEL:
        name = f"{model_label(results.best_zero_shot)}, the best zero-shot model,"
        comparisons.append(_comparison(results, model, results.best_zero_shot, name))
    if results.best_blind and model != results.best_blind:
        name = "the best baseline that never sees an image"
        comparisons.append(_comparison(results, model, results.best_blind, name))
    if not comparisons:
        return f"{sentence}."
    return f"{sentence}: {enumeration(comparisons).removesuffix(',')}."


def _comparison(results: Results, a: str, b: str, name: str) -> str:
    """Return `24.1 points more than X`, or that the difference isn't significant."""
    difference = results.metrics[a]["accuracy"] - results.metrics[b]["accuracy"]
    pair = results.pair(a, b)
    if pair is not None and not pair.get("significant", True):
        return f"not significantly different ({points(difference)} points) from {name}"
    word = "more" if difference >= 0 else "fewer"
    return f"{100 * abs(difference):.1f} points {word} than {name}"


def further_findings(results: Results) -> list[str]:
    """Return what else the numbers say, one sentence or two per finding."""
    return [
        *(results.external.warnings if results.external else ()),
        *(_blind_findings(results, results.best_blind) if results.best_blind else []),
        *_own_base(results),
        *_closed_world(results),
        *_worst_slices(results),
        *_power(results),
    ]


def _blind_findings(results: Results, blind: str) -> list[str]:
    """Return what the best blind baseline means for the other models."""
    zero_shot = results.zero_shot
    not_better = [m for m in zero_shot if not _beats(results, m, blind)]
    comparisons = len(results.evaluation.get("pairs", []))
    sentences = [
        f"{model_label(blind)}, the best blind baseline, reaches "
        f"{percent(results.metrics[blind]['accuracy'])} without the image. "
        f"{_zero_shot_summary(zero_shot, not_better, comparisons)}".strip()
    ]
    if unfinished := [model_label(m) for m in results.evaluation.get("unfinished_fits", [])]:
        sentences.append(
            f"The fit of {enumeration(unfinished)} was stopped before it converged, so the blind "
            "baseline may be higher than shown here."
        )
    sentences += [
        f"{model_label(model)} was fitted on {part}, so the blind baseline may be higher than "
        "shown here."
        for model, part in results.evaluation.get("partial_fits", {}).items()
    ]
    gains = _gains_by_type(results, results.primary_model)
    if better := [f"{name} ({points(gain)})" for name, gain in gains if gain > 0]:
        sentences.append(
            f"{model_label(results.primary_model)} gains over the best blind baseline on these "
            f"question types, in points: {enumeration(better)}."
        )
    return sentences


def _zero_shot_summary(models: list[str], not_better: list[str], comparisons: int) -> str:
    """Return how many of `models` beat the blind baseline significantly, given those that don't.

    An interval may exclude 0 although the test isn't significant after adjustment.
    """
    if not models:
        return ""
    adjusted = f" after adjustment for all {comparisons} comparisons" if comparisons else ""
    if len(not_better) == len(models):
        return f"No zero-shot model is significantly better{adjusted}."
    if not not_better:
        return f"Every zero-shot model is significantly better{adjusted}."
    names = enumeration([model_label(model) for model in not_better])
    return (
        f"{len(not_better)} of {len(models)} zero-shot models aren't significantly better"
        f"{adjusted}: {names}."
    )


def _beats(results: Results, model: str, blind: str) -> bool:
    """Return whether a model is significantly better than a blind one."""
    pair = results.pair(model, blind)
    if pair is None:
        return results.metrics[model]["accuracy"] > results.metrics[blind]["accuracy"]
    return bool(pair["difference"] > 0 and pair.get("significant", pair["low"] > 0))


def _gains_by_type(results: Results, model: str) -> list[tuple[str, float]]:
    """Return accuracy minus the best blind baseline's, for each question type."""
    blind = [m for m in results.metrics if model_kind(m) == "blind"]
    gains = []
    for own in results.slices(model, "question_type"):
        rivals = [
            other["accuracy"]
            for m in blind
            for other in results.slices(m, "question_type")
            if other["value"] == own["value"]
        ]
        if rivals:
            gains.append((str(own["value"]), own["accuracy"] - max(rivals)))
    return gains


def _own_base(results: Results) -> list[str]:
    """Return what fine-tuning has brought, compared with the same model without it."""
    base = results.config.lora.model
    pair = results.pair(FINETUNED_MODEL, base)
    if pair is None:
        return []
    interval = interval_text((pair["low"], pair["high"]), signed=True)
    verdict = "" if pair["significant"] else ", which isn't significant"
    return [
        f"Fine-tuning changes the accuracy of {model_label(base)} by "
        f"{points(pair['difference'])} points ({results.level} interval {interval}){verdict}."
    ]


def _closed_world(results: Results) -> list[str]:
    """Return what choosing among known answers is worth."""
    world, pair = results.evaluation.get("closed_world"), results.pair(*reversed(FINETUNED_MODELS))
    if not world or pair is None:
        return []
    candidates = f"train's {count(world['candidates'])} answers"
    if world["shortlist"] == "frequent" and world["k"] < world["candidates"]:
        candidates = f"train's {count(world['k'])} most frequent answers"
    subject = f"the accuracy of {model_label(FINETUNED_MODEL)}"
    effect = f"leaves {subject} exactly as it is"
    if pair["difference"] or pair["low"] or pair["high"]:
        interval = interval_text((pair["low"], pair["high"]), signed=True)
        verdict = "" if pair["significant"] else ", which isn't significant"
        change = f"{points(pair['difference'])} points ({results.level} interval {interval})"
        effect = f"changes {subject} by {change}{verdict}"
    limit = "" if world["covered"] == 1 else "; the others can't be answered right this way"
    return [
        f"Choosing the likeliest of {candidates} instead of writing freely {effect}. "
        f"{percent(world['covered'])} of the test rows have one of these answers{limit}."
    ]


def _worst_slices(results: Results) -> list[str]:
    """Return on which slices the primary model is weakest."""
    slices = [
        f"{slice_label(worst['slice'], worst['value'])} ({percent(worst['accuracy'])} of "
        f"{count(worst['n'])})"
        for worst in results.evaluation.get("worst_slices", [])[:_WORST_SLICES]
    ]
    if not slices:
        return []
    overall = percent(results.metrics[results.primary_model]["accuracy"])
    return [
        f"{model_label(results.primary_model)} is weakest on {enumeration(slices)}; its overall "
        f"accuracy is {overall}."
    ]


def _power(results: Results) -> list[str]:
    """Return which true difference the test set is large enough to detect."""
    smallest = results.evaluation.get("minimum_detectable_difference")
    if not isinstance(smallest, (int, float)):
        return []
    return [
        f"With this many test images, a true paired difference of {100 * smallest:.1f} points is "
        "detected with 80% power; much smaller ones are likely to be missed."
    ]
