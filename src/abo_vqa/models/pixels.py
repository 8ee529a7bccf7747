"""From decoded images to a vision tower's input, on the CPU and in any thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin


def process_images(
    processor: ProcessorMixin, images: Sequence[Image], dtype: torch.dtype
) -> torch.Tensor:
    """Resize and normalise images with a processor's own image processor.

    This runs on the CPU: on a GPU the image processors of transformers round differently.

    Args:
        processor: a processor of transformers.
        images: N images in RGB.
        dtype: the dtype of the result.

    Returns:
        Pixel values [N, 3, height, width].
    """
    inputs = processor.image_processor(images=list(images), return_tensors="pt")
    pixel_values: torch.Tensor = inputs["pixel_values"].to(dtype)
    return pixel_values


def pixel_dtype(model: PreTrainedModel) -> torch.dtype:
    """Return the dtype in which a model reads pixel values: its patch embedding's.

    `model.dtype` of transformers is the first parameter's, which may differ: some modules stay in
    float32 in a model of half precision, and quantised layers hold integers.

    Args:
        model: a model whose first convolution is its patch embedding.
    """
    convolutions = (nn.Conv2d, nn.Conv3d)
    patches = next((m for m in model.modules() if isinstance(m, convolutions)), None)
    dtype: torch.dtype = model.dtype if patches is None else patches.weight.dtype
    return dtype
