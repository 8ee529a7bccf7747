"""Settings of the sample with some replaced."""

from __future__ import annotations

from typing import Any

from abo_vqa.core.config import Config, load_config
from tests.support import ROOT


def with_compute(**changes: Any) -> Config:
    """Return the repository's settings with others under `compute`."""
    config = load_config(ROOT / "params.yaml")
    return config.model_copy(update={"compute": config.compute.model_copy(update=changes)})
