"""How far a device's results may be from the CPU's in float32, and how that is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Bound:
    """Largest allowed differences, relative to the largest value that is compared.

    Attributes:
        answers: of an image's encoding and of log-likelihoods.
        gradients: of the loss and of LoRA's gradients.
    """

    answers: float
    gradients: float


# Several times what half precision was seen to cost on a CPU (docs/doctor.md). float32 on a card
# isn't exact either: convolutions there round their inputs to TF32.
_BOUNDS = {
    "float32": Bound(answers=5e-3, gradients=1e-2),
    "float16": Bound(answers=2e-2, gradients=3e-2),
    "bfloat16": Bound(answers=8e-2, gradients=1e-1),
}


def bound(dtype: str) -> Bound:
    """Return what is allowed in a dtype.

    Args:
        dtype: its name.
    """
    return _BOUNDS[dtype]


def difference(values: Sequence[torch.Tensor], reference: Sequence[torch.Tensor]) -> float:
    """Return the largest difference over the reference's largest value.

    Args:
        values: tensors.
        reference: those they are compared with.

    Returns:
        The ratio; NaN if anything isn't finite, or shapes differ.
    """
    pairs = list(zip(values, reference, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return float("nan")
    if not any(other.numel() for _, other in pairs):
        return 0.0
    off = [float((one - other).abs().max()) for one, other in pairs if other.numel()]
    largest = max(float(other.abs().max()) for _, other in pairs if other.numel())
    if any(value != value for value in (*off, largest)):
        return float("nan")
    return max(off) / largest if largest else max(off)
