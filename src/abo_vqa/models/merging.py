"""Base weights and adapter merged into one checkpoint that needs no PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BlipForQuestionAnswering,
)

from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_folder
from abo_vqa.core.log import get_logger
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.models.adapters import Adapter
from abo_vqa.models.loading import load_pretrained, load_processor

if TYPE_CHECKING:
    from transformers import ProcessorMixin

logger = get_logger(__name__)


def merge_adapter(adapter: Path, out: Path, base: str | None = None) -> Path:
    """Write the merged model, in float32, and its processor to `out`, as a whole.

    Args:
        adapter: the adapter's folder.
        out: the folder to write, which mustn't exist.
        base: the checkpoint to merge into; None for the one that the adapter names.

    Returns:
        `out`.

    Raises:
        UserError: There is no adapter, its base can't be loaded, or `out` exists.
        OSError: The disk is full.
    """
    source = Adapter.read(adapter)
    if out.exists():
        raise UserError(f"{out} already exists. Remove it, or choose another folder with --out.")
    compute = ComputeConfig(device="cpu", dtype="float32")
    checkpoint = _base_of(source, base)
    loaded, _ = load_pretrained(_model_class(checkpoint), checkpoint, compute)
    processor = _processor_of(adapter, checkpoint)
    model = source.merge(loaded)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    with report_full_disk(out, size), atomic_folder(out) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return out


def _base_of(adapter: Adapter, named: str | None) -> CheckpointConfig:
    """Return the checkpoint to merge into: `named`, or else the one that the adapter names.

    Raises:
        UserError: neither is there, or they are different weights.
    """
    path = named or adapter.base
    if path is None:
        raise UserError(
            f"the adapter in {adapter.folder} doesn't say which base it was made for "
            "(base_model_name_or_path is empty). Name it with --base, e.g. models/sample/blip."
        )
    base = CheckpointConfig(path=path, revision=adapter.revision if path == adapter.base else None)
    adapter.check_base(base, "--base", "Leave --base out")
    return base


def _model_class(base: CheckpointConfig) -> Any:
    """Return the class of transformers that the base's configuration is for.

    BLIP's class for answers isn't the one that transformers would choose.
    """
    if load_processor(AutoConfig, base).model_type == "blip":
        return BlipForQuestionAnswering
    return AutoModelForImageTextToText


def _processor_of(adapter: Path, base: CheckpointConfig) -> ProcessorMixin:
    """Return the processor in the adapter's folder, or the base's: other tools write none there."""
    try:
        return AutoProcessor.from_pretrained(adapter)
    except (OSError, ValueError, KeyError, TypeError):
        logger.warning(f"no processor in {adapter}: taking the base model's")
        processor: ProcessorMixin = load_processor(AutoProcessor, base)
        return processor
