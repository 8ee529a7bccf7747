"""The explainer of each family; imports a family's only when a model of it is explained."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from abo_vqa.models.explaining.explainer import Explainer

if TYPE_CHECKING:
    from abo_vqa.models.answers import CandidateAnswers
    from abo_vqa.models.base import VQAModel

EXPLAINERS: Mapping[str, str] = MappingProxyType(
    {
        "Blip": "abo_vqa.models.explaining.blip:BlipExplainer",
        "Clip": "abo_vqa.models.explaining.closed:ClipExplainer",
        "Llava": "abo_vqa.models.explaining.causal:LlavaExplainer",
        "RankedModel": "abo_vqa.models.explaining.closed:RankedExplainer",
        "Vilt": "abo_vqa.models.explaining.vilt:ViltExplainer",
    }
)
"""A model's class → "module:class"; other models have the plain `Explainer`."""


def explainer_of(model: VQAModel, candidates: CandidateAnswers) -> Explainer[Any]:
    """Return the explainer of a model.

    Args:
        model: the model.
        candidates: see `Explainer`.
    """
    names = [base.__name__ for base in type(model).__mro__]
    target = next((EXPLAINERS[name] for name in names if name in EXPLAINERS), "")
    if not target:
        return Explainer(model, candidates)
    module, _, name = target.partition(":")
    explainer: Explainer[Any] = getattr(importlib.import_module(module), name)(model, candidates)
    return explainer
