"""What the numbers say, in sentences: the answer, and a few findings."""

from __future__ import annotations

from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.words import count, kind, label, listing, percent, points, span

WEAK = 3  # slices named in words


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
        compared.append(versus(results, model, results.best_zero_shot, name))
    if results.best_blind and model != results.best_blind:
        name = "the best baseline that never sees a picture"
        compared.append(versus(results, model, results.best_blind, name))
    return f"{sentence}: {listing(compared).removesuffix(',')}." if compared else f"{sentence}."


def versus(results: Results, a: str, b: str, name: str) -> str:
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
        beaten = [m for m in zero_shot if not clears(results, m, blind)]
        said.append(
            f"The floor is {percent(floor)}: {label(blind)} reaches it without the picture. "
            + beyond_chance(zero_shot, beaten)
        )
        types = gains_by_type(results, results.focus)
        better = [f"{name} ({points(gain)})" for name, gain in types if gain > 0]
        if better:
            said.append(
                f"{label(results.focus)} gains over the best blind baseline of each question "
                f"type: {listing(better)} points."
            )
    weak = [
        f"{part['slice'].replace('_', ' ')} {part['value']}, {percent(part['accuracy'])} of "
        f"{count(part['n'])}"
        for part in results.evaluation.get("worst_slices", [])[:WEAK]
    ]
    if weak:
        overall = percent(results.metrics[results.focus]["accuracy"])
        said.append(f"{label(results.focus)} is weakest at {'; '.join(weak)} (over all {overall}).")
    smallest = results.evaluation.get("minimum_detectable_difference")
    if isinstance(smallest, (int, float)):
        said.append(
            f"With this many test pictures, a paired difference below {100 * smallest:.1f} points "
            "can't be told from chance."
        )
    return said


def beyond_chance(models: list[str], beaten: list[str]) -> str:
    """How many of `models` clear the floor, given those that don't."""
    if not models:
        return ""
    if len(beaten) == len(models):
        return "No zero-shot model clears it beyond chance."
    if not beaten:
        return "Every zero-shot model clears it."
    names = listing([label(model) for model in beaten])
    return f"{len(beaten)} of {len(models)} zero-shot models don't clear it beyond chance: {names}."


def clears(results: Results, model: str, blind: str) -> bool:
    """Whether a model is better than blind beyond chance."""
    pair = results.pair(model, blind)
    if pair is None:
        return results.metrics[model]["accuracy"] > results.metrics[blind]["accuracy"]
    return bool(pair["difference"] > 0 and pair.get("significant", pair["low"] > 0))


def gains_by_type(results: Results, model: str) -> list[tuple[str, float]]:
    """Accuracy minus the best blind baseline's, within each question type."""
    blind = [m for m in results.metrics if kind(m) == "blind"]
    gains = []
    for part in results.slices(model, "question_type"):
        rivals = [
            other["accuracy"]
            for m in blind
            for other in results.slices(m, "question_type")
            if other["value"] == part["value"]
        ]
        if rivals:
            gains.append((str(part["value"]), part["accuracy"] - max(rivals)))
    return gains
