"""The check of a GPU's memory: whether the models of the settings fit, before they are fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem, warning
from abo_vqa.commands.doctor.gpu import usable
from abo_vqa.commands.doctor.weights import sources
from abo_vqa.core.config import CheckpointConfig
from abo_vqa.core.memory import memory_advice
from abo_vqa.core.units import GB

if TYPE_CHECKING:
    import torch

CONTEXT = 0.8 * GB  # CUDA, its libraries and their scratch memory
_BYTES = {"8bit": 1.0, "4bit": 0.5}
_HALF = 2


@dataclass(frozen=True)
class KnownSize:
    """What a model of the profile `abo` takes; benchmarks/t4.py has the arithmetic.

    Attributes:
        parameters: all of them.
        embeddings: those of them that quantisation leaves as they are.
        row: bytes of a row at a time, in half precision: keys and values, and the widest layer.
    """

    parameters: float
    embeddings: float
    row: float

    def weights(self, quantize: str | None, width: int) -> float:
        """Return the bytes of the weights.

        Args:
            quantize: "8bit", "4bit" or None.
            width: bytes of a number that isn't quantised.
        """
        if quantize is None:
            return self.parameters * width
        return (self.parameters - self.embeddings) * _BYTES[quantize] + self.embeddings * width


KNOWN_SIZES = {
    "Salesforce/blip-vqa-base": KnownSize(0.385e9, 0.024e9, 57e6),
    "Salesforce/blip2-opt-2.7b": KnownSize(3.745e9, 0.129e9, 33e6),
    "timm/vit_base_patch32_clip_224.openai": KnownSize(0.151e9, 0.025e9, 1.2e6),
    "llava-hf/llava-1.5-7b-hf": KnownSize(7.063e9, 0.263e9, 396e6),
    "dandelin/vilt-b32-finetuned-vqa": KnownSize(0.118e9, 0.023e9, 6e6),
    "google/paligemma-3b-mix-224": KnownSize(2.923e9, 0.527e9, 46e6),
    "Qwen/Qwen2.5-VL-3B-Instruct": KnownSize(3.755e9, 0.311e9, 25e6),
    "HuggingFaceTB/SmolVLM-256M-Instruct": KnownSize(0.256e9, 0.028e9, 470e6),
}


def card_memory(case: Checkout) -> Iterator[Finding]:
    """Compare what each model takes with the card's memory.

    Args:
        case: the checkout.
    """
    import torch

    place = usable(case.settings)
    if place.type != "cuda":
        return
    total = float(torch.cuda.mem_get_info(place)[1])
    fitting: dict[str, float] = {}
    for name, source in sources(case.settings).items():
        known = KNOWN_SIZES.get(source.path)
        if known is None or not isinstance(source, CheckpointConfig) or source.device_map:
            continue
        fixed, row = _needed(case, source, known, place)
        needed = fixed + source.batch_size * row
        if needed > total:
            yield _too_large(name, source, (needed, fixed + row), total)
        else:
            fitting[name] = needed
    if fitting:
        each = ", ".join(f"{name} {needed / GB:.1f}" for name, needed in fitting.items())
        yield ok("gpu memory", f"of {total / GB:.1f} GB, with its batch: {each}", fitting)


def _needed(
    case: Checkout, source: CheckpointConfig, known: KnownSize, place: torch.device
) -> tuple[float, float]:
    """Estimate the bytes that a model takes on a card: without any rows, and of each row."""
    from abo_vqa.core.devices import pick_dtype

    width = pick_dtype(source, case.settings.compute, place).itemsize
    return known.weights(source.quantize, width) + CONTEXT, known.row * width / _HALF


def _too_large(
    name: str, source: CheckpointConfig, needed: tuple[float, float], total: float
) -> Finding:
    """Report a model whose batch doesn't fit, or that has no room for a single row."""
    batch, single = needed
    settings = () if source.family in ("blip", "clip") else ("dtype", "quantize", "device_map")
    advice = memory_advice(
        settings,
        f"models.{name}",
        cuda=True,
        dtype=source.dtype or "",
        quantize=source.quantize or "",
    )
    numbers = {"needed_bytes": batch, "total_bytes": total}
    if single > total:
        message = f"about {single / GB:.1f} GB with a single row, of {total / GB:.1f}"
        return problem(f"models.{name}", message, advice, numbers)
    message = f"about {batch / GB:.1f} GB with {source.batch_size} rows, of {total / GB:.1f}"
    halved = f"Batches are halved until they fit; a smaller batch_sizes.{name} saves the attempts."
    return warning(f"models.{name}", message, f"{halved} {advice}", numbers)
