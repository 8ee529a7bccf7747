"""Answers of the fine-tuned model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import locked
from abo_vqa.core.paths import ADAPTER, FINETUNED_MODEL
from abo_vqa.core.scratch import scratch
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.answering.images import image_source, images_state
from abo_vqa.models.answering.journal import answers_key
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import checkpoint_of, family_class, load_model

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.base import VQAModel


def predict_finetuned(config: Config, test: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Answer rows with `lora.model` and the adapter in models/adapter.

    Args:
        config: the settings.
        test: columns row_id, image_path, question.
        folder: the journal's, from `finetuned_folder`.

    Returns:
        Columns row_id, prediction, confidence, error.
    """
    name = config.lora.model
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        model = load_model(name, config, adapter=ADAPTER)
        images = image_source(
            config, test, model, stack, checkpoint_key=name, use_stored=_uses_stored(config)
        )
        return predict_rows(
            model, test, images, folder, checkpoint_of(name, config).batch_size, name
        )


def _uses_stored(config: Config) -> bool:
    """Return whether the stored vision outputs are also those of the model with the adapter."""
    vision_modules = family_class(checkpoint_of(config.lora.model, config)).vision_modules
    return not Adapter.read(ADAPTER).changes_vision(vision_modules)


def finetuned_folder(config: Config, test: pd.DataFrame) -> Path:
    """Return the folder of the journal, which the stage removes when it has ended.

    Args:
        config: the settings.
        test: columns row_id, image_path, question.
    """
    weights = [file_md5(file) for file in sorted(ADAPTER.glob("adapter_*"))]
    more = [weights, images_state(config, test, use_stored=_uses_stored(config))]
    return scratch("finetuned", answers_key("predict", config.lora.model, config, test, more))


def stage_of(name: str) -> str:
    """Return the stage whose code answers with a model.

    Args:
        name: a model's name, or "finetuned".
    """
    return "predict" if name == FINETUNED_MODEL else "baseline"


def load_by_name(name: str, config: Config, adapter: Path = ADAPTER) -> VQAModel:
    """Load a model by name, the fine-tuned one and CLIP with its candidates included.

    Args:
        name: a model's name, or "finetuned".
        config: the settings.
        adapter: the PEFT folder of "finetuned".

    Raises:
        UserError: the model or the adapter can't be loaded.
    """
    if name != FINETUNED_MODEL:
        candidates = candidates_for(name, config)
        return load_model(
            name, config, **({} if candidates is None else {"candidates": candidates})
        )
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"no adapter in {adapter}; run the stage `finetune`, or give --adapter.")
    return load_model(config.lora.model, config, adapter=adapter)
