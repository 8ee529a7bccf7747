"""Models that are scored on rows which they have written or chosen themselves.

A filter of the stage `verify` keeps the pairs that its models agree with, so these models, and all
that share their weights, are right on such rows more often than on others: which model filters
decides which one is best. See docs/generation.md, "A second opinion".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum
from typing import TYPE_CHECKING

from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.core.paths import FINETUNED_MODEL, FINETUNED_MODELS
from abo_vqa.core.service_config import PROTOCOLS
from abo_vqa.core.verify_config import BLIND_VERIFIER

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


class Part(Enum):
    """What a model had to do with the rows on which it is scored."""

    AGREEMENT = "verify.min_agreement kept what it agrees with"
    CAP = "verify.blind_share left out what it gets right"
    ANNOTATOR = "it wrote the questions and answers"


def circular_models(
    config: Config, models: Iterable[str], verifiers: Collection[str], *, capped: bool
) -> dict[str, Part]:
    """Return the models that had a part in making the rows on which they are scored.

    Args:
        config: the settings: which models share their weights, and who wrote the questions.
        models: those that are scored, as in reports/metrics.json or `baselines.models`.
        verifiers: those whose agreement a filter asked for; none without such a filter.
        capped: whether a filter left out pairs that the blind verifier gets right.

    Returns:
        Model → its part. Only the model's weights count: not its prompt, nor how it decodes.
    """
    chosen_by = {_weights(config, name) for name in verifiers if name != BLIND_VERIFIER}
    annotator = _annotator(config)
    parts = {}
    for model in models:
        if model.startswith(BLIND_VERIFIER):
            if capped:
                parts[model] = Part.CAP
        elif _weights(config, model) in chosen_by:
            parts[model] = Part.AGREEMENT
        elif annotator and _weights(config, model) == annotator:
            parts[model] = Part.ANNOTATOR
    return parts


def circularity_warnings(config: Config) -> list[str]:
    """Return warnings about models that are to be scored on rows which they filter.

    Args:
        config: the settings.
    """
    verify = config.verify
    verifiers = () if verify.min_agreement is None else verify.models
    scored = circular_models(
        config,
        (*config.baselines.models, FINETUNED_MODEL),
        verifiers,
        capped=verify.blind_share is not None,
    )
    names = {part: [model for model in scored if scored[model] is part] for part in Part}
    warnings = []
    if agreeing := names[Part.AGREEMENT]:
        warnings.append(
            f"warning: {', '.join(agreeing)}: verify.min_agreement keeps the pairs that the model "
            "itself (or its base) agrees with, so on these its accuracy is too high. The report "
            "marks it. To rank it with others, have models verify that aren't scored."
        )
    if capped := names[Part.CAP]:
        warnings.append(
            f"warning: {', '.join(capped)}: verify.blind_share leaves out pairs that it gets "
            "right, so its accuracy is too low, and every gain over blind too high. The report "
            "marks it."
        )
    return warnings


def _weights(config: Config, model: str) -> str:
    """Return what tells a model's weights from others': their path, or an endpoint's model."""
    base = config.lora.model if model in FINETUNED_MODELS else model
    if base.startswith("clip-"):
        base = "clip"
    checkpoint = getattr(config.models, base, None)
    if checkpoint is None:
        return base
    return str(checkpoint.endpoint.model if checkpoint.endpoint else checkpoint.path)


def _annotator(config: Config) -> str:
    """Return the weights of the model that wrote the questions, "" if none did."""
    generate = config.generate
    if generate.annotator == LOCAL:
        return _weights(config, generate.model)
    return generate.model if generate.annotator in PROTOCOLS else ""
