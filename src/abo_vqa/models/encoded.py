"""Encoded images of decoder-only models, in which images differ in their number of tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ImageLayout:
    """What a prompt needs to know of an image besides its vision output.

    Attributes:
        text: what the processor puts in place of the image token: the image token once for each of
            the image's tokens and, in some families, marks between the parts of a large image.
        grid: frames, rows and columns of its patches, from which some families compute positions;
            empty where none are needed.
    """

    text: str
    grid: tuple[int, ...] = ()

    def to_json(self) -> str:
        """Return the layout as one line of text."""
        return json.dumps([self.text, *self.grid])

    @classmethod
    def from_json(cls, line: str) -> ImageLayout:
        """Read what `to_json` has written.

        Args:
            line: the text.
        """
        text, *grid = json.loads(line)
        return cls(text, tuple(grid))


@dataclass(frozen=True)
class EncodedImage:
    """An image as a decoder-only model reads it.

    Attributes:
        features: [T, V], one vector for each image token. V is the language model's width, or
            a multiple of it where vision outputs also enter deeper layers.
        layout: what the prompt needs to know of it.
    """

    features: Tensor
    layout: ImageLayout
