"""From images to vision output in the language model's space, each image by itself.

An image is preprocessed by itself, so that its tokens don't depend on the batch. The vision part
runs on as many images at a time as have tensors of like shapes.

Shapes: an image of T tokens; width W of the language model; D layers that vision outputs enter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from abo_vqa.models.encoded import ImageLayout

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin

    from abo_vqa.models.causal.architectures import Architecture

_TEXT = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels"}
_OFFSETS = "text_replacement_offsets"
_GRID = "image_grid_thw"


@dataclass(frozen=True)
class PixelInputs:
    """An image as its processor prepares it.

    Attributes:
        tensors: the arguments of the model's vision part, with one image each: pixel values and
            whatever else it takes.
        layout: what a prompt needs to know of the image.
    """

    tensors: Mapping[str, Tensor]
    layout: ImageLayout


def process_image(processor: ProcessorMixin, image: Image, dtype: torch.dtype) -> PixelInputs:
    """Prepare one image on the CPU.

    Args:
        processor: a processor of transformers.
        image: an image in RGB.
        dtype: the dtype of pixel values.
    """
    output = processor(
        images=[image],
        text=[processor.image_token],
        return_text_replacement_offsets=True,
        return_tensors="pt",
    )
    text: str = output[_OFFSETS][0][0]["replacement"]
    tensors = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in output.items()
        if name not in _TEXT and isinstance(value, Tensor)
    }
    grid = tensors[_GRID][0].tolist() if _GRID in tensors else ()
    return PixelInputs(tensors, ImageLayout(text, tuple(grid)))


def vision_features(
    model: PreTrainedModel, images: Sequence[PixelInputs], counts: Sequence[int]
) -> list[Tensor]:
    """Run the vision part and the projection into the language model's space.

    Args:
        model: the model.
        images: N images on the model's device.
        counts: T, the number of tokens of each image.

    Returns:
        N tensors [T, W], or [T, W * (1 + D)] where vision outputs enter further layers.
    """
    groups: dict[Any, list[int]] = {}
    for position, image in enumerate(images):
        shapes = tuple((name, value.shape[1:]) for name, value in sorted(image.tensors.items()))
        groups.setdefault(shapes, []).append(position)
    features: dict[int, Tensor] = {}
    for members in groups.values():
        names = images[members[0]].tensors
        inputs = {name: torch.cat([images[i].tensors[name] for i in members]) for name in names}
        output = model.get_image_features(**inputs, return_dict=True)
        parts = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
        joined = torch.cat([_flatten(part) for part in parts], dim=-1)
        features |= dict(
            zip(members, torch.split(joined, [counts[i] for i in members]), strict=True)
        )
    return [features[position] for position in range(len(images))]


def join_features(
    features: Sequence[Tensor], width: int, architecture: Architecture
) -> BaseModelOutputWithPooling:
    """Return images' features in the form that the library's forward pass takes.

    Args:
        features: N results of `vision_features`.
        width: W.
        architecture: the model's.
    """
    layers = [torch.split(image, width, dim=-1) for image in features]
    first: Any = [parts[0] for parts in layers]
    if architecture.features == "tensor":
        first = torch.cat(first)
    output = BaseModelOutputWithPooling(pooler_output=first)
    if deeper := len(layers[0]) - 1:
        output.deepstack_features = [
            [parts[1 + layer] for parts in layers] for layer in range(deeper)
        ]
    return output


def _flatten(features: Tensor | Sequence[Tensor]) -> Tensor:
    """Join features [..., T, W] of one or several images to [all tokens, W]."""
    if isinstance(features, Tensor):
        return features.reshape(-1, features.shape[-1])
    return torch.cat([_flatten(part) for part in features])
