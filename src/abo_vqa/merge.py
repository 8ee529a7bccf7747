"""`abo-vqa merge`: base weights and adapter as one checkpoint that needs no PEFT."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from abo_vqa.errors import UserError
from abo_vqa.io import read_json

ADAPTER = Path("models/adapter")
OUT = Path("models/merged")


def merge(adapter: Path, out: Path) -> Path:
    """Write the merged model, in float32, and its processor to `out`, as a whole.

    Raises:
        UserError: there is no adapter, its base can't be loaded, or `out` exists.
    """
    described = adapter / "adapter_config.json"
    if not described.is_file():
        raise UserError(f"no adapter in {adapter}. Run the stage `finetune`, or name another.")
    if out.exists():
        raise UserError(f"{out} is there already. Remove it, or choose another folder with --out.")
    from transformers import AutoProcessor

    from abo_vqa.config import Checkpoint, Compute
    from abo_vqa.models.blip import Blip

    settings = read_json(described)
    base = Checkpoint(path=settings["base_model_name_or_path"], revision=settings.get("revision"))
    blip = Blip.load(base, Compute(device="cpu", dtype="float32"), adapter)
    staged = out.with_name(f".{out.name}-new")
    shutil.rmtree(staged, ignore_errors=True)
    blip.model.save_pretrained(staged)
    AutoProcessor.from_pretrained(adapter).save_pretrained(staged)
    staged.rename(out)
    return out


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", type=Path, default=ADAPTER, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="(%(default)s)")


def command(args: argparse.Namespace) -> int:
    print(f"merged weights in {merge(args.adapter, args.out)}")
    return 0
