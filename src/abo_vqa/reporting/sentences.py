"""What the numbers say, in sentences: the answer, and a few findings."""

from __future__ import annotations

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.words import count, kind, label, listing, part, percent, points, span

_WEAK = 3  # slices named in words


def conclusion(results: Results) -> str:
    """The answer in one sentence."""
    model = results.focus
    n = f"{results.metrics[model].get('n', 0):,.0f}"
    accuracy = percent(results.metrics[model]["accuracy"])
    bounds = results.interval(model)
    interval = f" (95% interval {span(bounds)})" if bounds else ""
    verb = "BLIP fine-tuned with LoRA" if model == "finetuned" else label(model)
    sentence = f"{verb} answers {accuracy} of {n} held-out questions exactly{interval}"
    compared = []
    if results.best_zero_shot and model == "finetuned":
        name = f"{label(results.best_zero_shot)}, the best zero-shot model,"
        compared.append(_versus(results, model, results.best_zero_shot, name))
    if results.best_blind and model != results.best_blind:
        name = "the best baseline that never sees a picture"
        compared.append(_versus(results, model, results.best_blind, name))
    return f"{sentence}: {listing(compared).removesuffix(',')}." if compared else f"{sentence}."


def _versus(results: Results, a: str, b: str, name: str) -> str:
    """`24.1 points more than X`, or that the difference isn't significant."""
    difference = results.metrics[a]["accuracy"] - results.metrics[b]["accuracy"]
    pair = results.pair(a, b)
    if pair is not None and not pair.get("significant", True):
        return f"not significantly different ({points(difference)} points) from {name}"
    word = "more" if difference >= 0 else "fewer"
    return f"{100 * abs(difference):.1f} points {word} than {name}"


def findings(results: Results) -> list[str]:
    """What else the numbers say, in a few sentences."""
    said = []
    blind = results.best_blind
    if blind is not None:
        floor = results.metrics[blind]["accuracy"]
        zero_shot = [m for m in results.ranking if kind(m) == "zero-shot"]
        beaten = [m for m in zero_shot if not _clears(results, m, blind)]
        said.append(
            f"The floor is {percent(floor)}: {label(blind)} reaches it without the picture. "
            + _beyond_chance(zero_shot, beaten, len(results.evaluation.get("pairs", [])))
        )
        unfinished = [label(m) for m in results.evaluation.get("unfinished_fits", [])]
        if unfinished:
            said.append(
                f"The fit of {listing(unfinished)} was stopped before its end: the floor may be "
                "higher than it is here."
            )
        types = _gains_by_type(results, results.focus)
        better = [f"{name} ({points(gain)})" for name, gain in types if gain > 0]
        if better:
            said.append(
                f"{label(results.focus)} gains over the best blind baseline of each question "
                f"type: {listing(better)} points."
            )
    weak = [
        f"{part(found['slice'], found['value'])} ({percent(found['accuracy'])} of "
        f"{count(found['n'])})"
        for found in results.evaluation.get("worst_slices", [])[:_WEAK]
    ]
    if weak:
        overall = percent(results.metrics[results.focus]["accuracy"])
        said.append(
            f"{label(results.focus)} is weakest at {listing(weak)}; over all it has {overall}."
        )
    smallest = results.evaluation.get("minimum_detectable_difference")
    if isinstance(smallest, (int, float)):
        said.append(
            f"With this many test pictures, a true paired difference of {100 * smallest:.1f} "
            "points is found four times in five; much smaller ones are likely to be missed."
        )
    return said


def _beyond_chance(models: list[str], beaten: list[str], pairs: int) -> str:
    """How many of `models` clear the floor, given those that don't, after correction for `pairs`.

    A single interval may leave out 0 where the corrected test doesn't call a difference real.
    """
    if not models:
        return ""
    corrected = f", corrected for all {pairs} comparisons" if pairs else ""
    if len(beaten) == len(models):
        return f"No zero-shot model clears it beyond chance{corrected}."
    if not beaten:
        return f"Every zero-shot model clears it beyond chance{corrected}."
    names = listing([label(model) for model in beaten])
    return (
        f"{len(beaten)} of {len(models)} zero-shot models don't clear it beyond chance{corrected}: "
        f"{names}."
    )


def _clears(results: Results, model: str, blind: str) -> bool:
    """Whether a model is better than blind beyond chance."""
    pair = results.pair(model, blind)
    if pair is None:
        return results.metrics[model]["accuracy"] > results.metrics[blind]["accuracy"]
    return bool(pair["difference"] > 0 and pair.get("significant", pair["low"] > 0))


def _gains_by_type(results: Results, model: str) -> list[tuple[str, float]]:
    """Accuracy minus the best blind baseline's, within each question type."""
    blind = [m for m in results.metrics if kind(m) == "blind"]
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
