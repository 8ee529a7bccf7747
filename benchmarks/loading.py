"""Host memory that loading a model onto a card takes, beside what ends up on the card.

    python benchmarks/loading.py                 # LLaVA's classes with 1 of its 32 layers
    python benchmarks/loading.py --layers 32     # its real size: 14 GB of disk

The checkpoint is float16, as LLaVA's is, and loaded in bfloat16: each tensor is converted.
Without a GPU it goes onto the tests' pretended one, whose bytes are the host's
and are taken off (14 GB of memory more at the real size).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from helpers.hub import llava
from helpers.hub.layout import write_folder
from helpers.usage import AnonymousPeak
from transformers import LlavaForConditionalGeneration

from abo_vqa.core.config import CheckpointConfig, ComputeConfig
from abo_vqa.models.loading import load_pretrained

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support


@contextmanager
def card() -> Iterator[Any]:
    """What says how many of the host's bytes a card's tensors are: none of a real one's."""
    if torch.cuda.is_available():
        yield lambda: 0
        return
    from tests.support.pretend_gpu import pretend

    with pretend():
        yield lambda: torch.cuda.memory_allocated(0)


def measure(folder: Path) -> tuple[int, int]:
    """Peak bytes on the host alone, and bytes on the card."""
    checkpoint, compute = (
        CheckpointConfig(path=str(folder)),
        ComputeConfig(device="cuda", dtype="bfloat16"),
    )
    with card() as on_card, AnonymousPeak(apart=on_card) as peak:
        model, _ = load_pretrained(LlavaForConditionalGeneration, checkpoint, compute)
        there = sum(p.numel() * p.element_size() for p in model.parameters())
    return peak.bytes, there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=1, help="LLaVA has 32 (default: 1)")
    parser.add_argument("--folder", type=Path, help="where the checkpoint is or goes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "model.safetensors.index.json").is_file():
            repository = llava.repository(real=True, layers=args.layers)
            print(f"writing {repository.bytes / 1e9:.1f} GB", file=sys.stderr)
            write_folder(folder, repository)
        peak, there = measure(folder)
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "a pretended card"
    print(f"{there / 1e9:.2f} GB on {name}, {peak / 1e9:.2f} GB more on the host at most "
          f"({os.cpu_count()} cores)")  # fmt: skip


if __name__ == "__main__":
    main()
