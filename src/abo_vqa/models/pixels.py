"""From decoded pictures to the numbers that a vision tower reads, on the CPU and in any thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


def pixel_values(processor: Any, pictures: Sequence[Image], dtype: torch.dtype) -> torch.Tensor:
    """Pictures through a processor's own resizing and normalisation: [P, 3, height, width].

    On the CPU: on a GPU the processors of transformers would round otherwise.
    """
    found = processor.image_processor(images=list(pictures), return_tensors="pt")
    pixels: torch.Tensor = found["pixel_values"].to(dtype)
    return pixels


def pixel_dtype(model: Any) -> torch.dtype:
    """The number format that a model reads pixels in: its patch embedding's.

    The first parameter's, which transformers gives as `model.dtype`, needn't be it: some parts
    stay in float32 in a model of half precision, and quantised layers hold integers.
    """
    from torch import nn

    convolutions = (nn.Conv2d, nn.Conv3d)
    patches = next((m for m in model.modules() if isinstance(m, convolutions)), None)
    dtype: torch.dtype = model.dtype if patches is None else patches.weight.dtype
    return dtype
