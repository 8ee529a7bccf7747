"""`abo-vqa merge`: base weights and adapter as one checkpoint that needs no PEFT."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import ADAPTER, MERGED
from abo_vqa.core.system_errors import storing
from abo_vqa.models.adapters import Adapter

if TYPE_CHECKING:
    from abo_vqa.config import CheckpointConfig


def merge(adapter: Path, out: Path, base: str | None = None) -> Path:
    """Write the merged model, in float32, and its processor to `out`, as a whole.

    Args:
        base: the checkpoint to merge into, where the adapter doesn't name one.
    Raises:
        UserError: there is no adapter, its base can't be loaded, or `out` exists.
        OSError: no space left.
    """
    found = Adapter.read(adapter)
    if out.exists():
        raise UserError(f"{out} is there already. Remove it, or choose another folder with --out.")
    from abo_vqa.config import ComputeConfig
    from abo_vqa.models.blip.model import Blip

    checkpoint = _base_of(found, base)
    blip = Blip.load(checkpoint, ComputeConfig(device="cpu", dtype="float32"), adapter)
    processor = _processor_of(adapter, blip.processor)
    staged = out.with_name(f".{out.name}-new")
    shutil.rmtree(staged, ignore_errors=True)
    needed = sum(p.numel() * p.element_size() for p in blip.model.parameters())
    try:
        with storing(out, needed):
            blip.model.save_pretrained(staged)
            processor.save_pretrained(staged)
            staged.rename(out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return out


def _base_of(adapter: Adapter, named: str | None) -> CheckpointConfig:
    """The checkpoint that the adapter names, or `named` if it names none."""
    from abo_vqa.config import CheckpointConfig

    path = named or adapter.base
    if path is None:
        raise UserError(
            f"the adapter in {adapter.folder} doesn't say which base it was made for "
            "(base_model_name_or_path is empty). Name it with --base, e.g. models/sample/blip."
        )
    return CheckpointConfig(path=path, revision=adapter.revision if path == adapter.base else None)


def _processor_of(adapter: Path, own: Any) -> Any:
    """The processor in the adapter's folder, which other tools don't put there; else the base's."""
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(adapter)
    except (OSError, ValueError, KeyError, TypeError):
        print(f"no processor in {adapter}: taking the base's", file=sys.stderr)
        return own


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", type=Path, default=ADAPTER, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=MERGED, help="(%(default)s)")
    parser.add_argument("--base", help="checkpoint to merge into; default: the adapter names it")


def command(args: argparse.Namespace) -> int:
    print(f"merged weights in {merge(args.adapter, args.out, args.base)}")
    return 0
