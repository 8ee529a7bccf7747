"""Answers of the fine-tuned model."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.locks import locked
from abo_vqa.core.scratch import scratch
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.answering.journal import journal_key
from abo_vqa.models.answering.pictures import pictures_for, pictures_state, source_for
from abo_vqa.models.answering.runner import predict_rows
from abo_vqa.models.candidates import candidates_for
from abo_vqa.models.registry import load_model

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel
from typing import TYPE_CHECKING

from abo_vqa.core.paths import ADAPTER

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel


def predict_finetuned(config: Config, test: pd.DataFrame) -> pd.DataFrame:
    """Answers of BLIP with models/adapter to rows (row_id, image_path, question)."""
    adapter = Adapter.read(ADAPTER)
    with ExitStack() as stack:
        folder = stack.enter_context(locked(finetuned_folder(config, test)))
        model = load_model("blip", config, adapter=ADAPTER)
        pictures = pictures_for(source_for(adapter), config, test, model, stack)
        size = config.models.blip.batch_size
        return predict_rows(model, test, pictures, folder, size, "blip")


def finetuned_folder(config: Config, test: pd.DataFrame) -> Path:
    """The journal of `predict_finetuned`; the stage removes it when it has ended."""
    weights = [file_md5(file) for file in sorted(ADAPTER.glob("adapter_*"))]
    more = [weights, pictures_state(source_for(Adapter.read(ADAPTER)), config, test)]
    return scratch("finetuned", journal_key("blip", config, test, more))


FINETUNED = "finetuned"


def load(name: str, config: Config, adapter: Path = ADAPTER) -> VQAModel:
    """The model `name`, or for "finetuned" BLIP with the adapter."""
    if name != FINETUNED:
        candidates = candidates_for(name, config)
        return load_model(
            name, config, **({} if candidates is None else {"candidates": candidates})
        )
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"no adapter in {adapter}; run the stage `finetune`, or give --adapter.")
    return load_model("blip", config, adapter=adapter)
