"""Loads the model that a worker serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.models.adapted import adapted_checkpoint, load_adapted
from abo_vqa.models.answering.finetuned import load_by_name
from abo_vqa.models.answering.inference import QuestionAnswerer
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.serving.source import ModelSource


def load_answerer(source: ModelSource, config: Config) -> QuestionAnswerer:
    """Load a model.

    Args:
        source: the model.
        config: the settings.

    Raises:
        UserError: it can't be loaded.
    """
    pixels = config.serve.max_pixels
    if source.settings is not None:
        folder = Path(source.adapter)
        checkpoint = adapted_checkpoint(folder, source.settings, source.base)
        model = load_adapted(folder, checkpoint, config.compute)
        return QuestionAnswerer(model, checkpoint.batch_size, pixels)
    model = load_by_name(source.name, config, Path(source.adapter))
    key = config.lora.model if source.adapter else source.name
    return QuestionAnswerer(model, checkpoint_of(key, config).batch_size, pixels)
