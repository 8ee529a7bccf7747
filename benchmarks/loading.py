"""Host memory that loading a model onto a card takes, beside what ends up on the card.

    python benchmarks/loading.py                 # LLaVA's classes with 1 of its 32 layers
    python benchmarks/loading.py --layers 32     # its real size: 14 GB of disk

The checkpoint is float16, as LLaVA's is, and loaded in bfloat16: each tensor is converted.
Without a GPU it goes onto the tests' pretended one, whose bytes are the host's
and are taken off (14 GB of memory more at the real size).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from helpers.usage import AnonymousPeak

sys.path.insert(0, str(Path(__file__).parents[1]))


def llava(layers: int) -> Any:
    """LLaVA-1.5-7B's configuration with this many layers of its language model."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    vision = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
                              num_attention_heads=16, image_size=336, patch_size=14)  # fmt: skip
    text = LlamaConfig(vocab_size=32064, num_hidden_layers=layers)
    return LlavaConfig(vision_config=vision, text_config=text)


def write(folder: Path, layers: int) -> int:
    """A checkpoint of zeros, a tensor at a time in memory; its bytes."""
    from safetensors.torch import save_file
    from transformers import LlavaForConditionalGeneration

    config = llava(layers)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    config.save_pretrained(folder)
    weights, shard = {}, 0
    names = list(model.state_dict().items())
    index: dict[str, str] = {}
    for at, (name, tensor) in enumerate(names):
        weights[name] = torch.zeros(tensor.shape, dtype=torch.float16)
        if sum(t.nbytes for t in weights.values()) > 1 << 30 or at + 1 == len(names):
            file = f"model-{shard:05d}.safetensors"
            save_file(weights, folder / file, metadata={"format": "pt"})
            index |= dict.fromkeys(weights, file)
            weights, shard = {}, shard + 1
    total = sum(t.numel() * 2 for _, t in names)
    content = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return total


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
    from transformers import LlavaForConditionalGeneration

    from abo_vqa.config import CheckpointConfig, ComputeConfig
    from abo_vqa.models.loading import load_pretrained

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
            folder.mkdir(parents=True, exist_ok=True)
            print(f"writing {write(folder, args.layers) / 1e9:.1f} GB", file=sys.stderr)
        peak, there = measure(folder)
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "a pretended card"
    print(f"{there / 1e9:.2f} GB on {name}, {peak / 1e9:.2f} GB more on the host at most "
          f"({os.cpu_count()} cores)")  # fmt: skip


if __name__ == "__main__":
    main()
