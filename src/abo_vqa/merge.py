"""`abo-vqa merge`: base weights and adapter as one checkpoint that needs no PEFT."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from abo_vqa.errors import UserError

ADAPTER = Path("models/adapter")
OUT = Path("models/merged")


def merge(adapter: Path, out: Path) -> Path:
    """Write the merged model and its processor to `out`, as a whole.

    Raises:
        UserError: there is no adapter, or `out` exists.
    """
    described = adapter / "adapter_config.json"
    if not described.is_file():
        raise UserError(f"no adapter in {adapter}. Run the stage `finetune`, or name another.")
    if out.exists():
        raise UserError(f"{out} is there already. Remove it, or choose another folder with --out.")
    from peft import PeftModel
    from transformers import AutoProcessor, BlipForQuestionAnswering

    source = json.loads(described.read_text())
    base = BlipForQuestionAnswering.from_pretrained(
        source["base_model_name_or_path"], revision=source.get("revision")
    )
    dtype = base.dtype
    merged = PeftModel.from_pretrained(base.float(), adapter).merge_and_unload().to(dtype)
    staged = out.with_name(f".{out.name}-new")
    shutil.rmtree(staged, ignore_errors=True)
    merged.save_pretrained(staged)
    AutoProcessor.from_pretrained(adapter).save_pretrained(staged)
    staged.rename(out)
    return out


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", type=Path, default=ADAPTER, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="(%(default)s)")


def command(args: argparse.Namespace) -> int:
    print(f"merged weights in {merge(args.adapter, args.out)}")
    return 0
