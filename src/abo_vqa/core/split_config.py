"""Settings of the split, and of the groups that it keeps together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from abo_vqa.core.config_base import BaseConfig, Fraction

# A hosted model shows no vectors, and ViLT looks at an image together with a question.
_WITHOUT_VECTORS = ("endpoint", "vilt")


class SplitConfig(BaseConfig):
    """How rows are divided into train and test."""

    test_size: Annotated[float, Field(gt=0, lt=1)]
    group: Literal["image", "product", "near-duplicate", "variant"]
    phash_distance: Annotated[int, Field(ge=0, le=32)]
    cosine: dict[str, Fraction]  # the vectors of these models are compared too
    stratify: bool


def check_vector_models(settings: Mapping[str, Any]) -> list[str]:
    """Check the names in `split.cosine`.

    Args:
        settings: all settings as read.

    Returns:
        What is wrong: there is no such model, or it has no vectors of images alone.
    """
    split, models = settings.get("split"), settings.get("models")
    if not (isinstance(split, dict) and isinstance(models, dict)):
        return []  # reported as missing, or of a wrong type
    cosines = split.get("cosine")
    if not isinstance(cosines, dict):
        return []
    families = {
        name: entry.get("family") for name, entry in models.items() if isinstance(entry, dict)
    }
    allowed = [name for name, family in families.items() if family not in _WITHOUT_VECTORS]
    return [
        f"split.cosine: found {name!r}; "
        + (f"the family {families[name]} has no vectors of images; " if name in families else "")
        + f"allowed: {', '.join(allowed)}"
        for name in cosines
        if name not in allowed
    ]
