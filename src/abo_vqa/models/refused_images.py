"""Images that a model's processor refuses: one of them must cost its own rows only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import first_line
from abo_vqa.core.memory import out_of_memory

if TYPE_CHECKING:
    from PIL.Image import Image

    _Preprocess = Callable[[Sequence[Image]], Any]

IMAGE_ERRORS = (ValueError, ArithmeticError, LookupError, RuntimeError)
"""What processors raise for an image that they can't prepare, such as one that is all length."""


def refusal_reasons(
    preprocess: _Preprocess, images: Sequence[Image], error: BaseException
) -> list[str]:
    """Find the images that are at fault, by preparing each by itself.

    Args:
        preprocess: `VQAModel.preprocess` of the model.
        images: N images.
        error: what it raised for all of them together.

    Returns:
        For each image why it can't be prepared, or "". All are "" if memory has run out.
    """
    if out_of_memory(error):
        return [""] * len(images)
    return [_refusal_reason(preprocess, image) for image in images]


def _refusal_reason(preprocess: _Preprocess, image: Image) -> str:
    """Return why an image can't be prepared, or ""."""
    try:
        preprocess([image])
    except IMAGE_ERRORS as error:
        if out_of_memory(error):
            return ""
        width, height = image.size
        return f"the image ({width} x {height}) can't be prepared: {first_line(error)}"
    return ""
