"""Blocks of images → vision outputs, in whichever process has the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import peak_memory
from abo_vqa.data.archive import open_archive
from abo_vqa.models.base import VQAModel
from abo_vqa.models.registry import checkpoint_of, load_checkpoint
from abo_vqa.models.sources import ImageEncoder, ImageFiles, prefetch

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


@dataclass(frozen=True)
class EncodedBlock:
    """A block's vision outputs.

    Attributes:
        vectors: path → its matrix [T, V]; unreadable images have none.
        texts: path → the line of text that belongs to it.
        errors: path → why the image can't be read.
        shape: (T, V) if it is the same for all images the model encodes, else None.
        peak: peak memory in bytes; see `abo_vqa.core.memory.peak_memory`.
    """

    vectors: Mapping[str, np.ndarray]
    texts: Mapping[str, str]
    errors: Mapping[str, str]
    shape: tuple[int, int] | None
    peak: int


class BlockEncoder:
    """Encodes blocks of images, one loaded while another is encoded.

    Args:
        config: the settings.
        model_name: the model's name.
        dtype: the dtype that outputs are stored in.
        pooled: one vector per image instead, of unit length.

    Raises:
        UserError: the model can't be loaded, or its outputs can't be stored.
    """

    def __init__(self, config: Config, model_name: str, dtype: str, *, pooled: bool) -> None:
        checkpoint = checkpoint_of(model_name, config)
        self._model = load_checkpoint(checkpoint, config)
        self._stored = pooled_vector if pooled else type(self._model).split_encoded
        if self._stored is VQAModel.split_encoded:
            raise UserError(
                f"models.{model_name} ({checkpoint.path}) can be asked but not fine-tuned: its "
                "vision outputs can't be stored. Set lora.model to another model."
            )
        self._dtype = dtype
        # Not every model knows the width of its vectors.
        self._shape = None if pooled else self._model.encoded_shape
        self._archive = open_archive(config.data.raw)
        self._files = ImageFiles(self._archive.image, fetch=self._archive.prefetch)
        self._encoder = ImageEncoder(self._model, self._files, model_name)

    def __call__(self, blocks: Sequence[list[str]]) -> Iterator[EncodedBlock]:
        """Encode blocks of images.

        Args:
            blocks: the images' paths; none for a block that only tells the shape.
        """
        loaded = prefetch(blocks, lambda paths: self._files.load(self._model, paths))
        with torch.inference_mode():
            for paths, images in loaded:
                vectors: dict[str, np.ndarray] = {}
                texts: dict[str, str] = {}
                errors: dict[str, str] = {}
                for encoded in self._encoder.encode(paths, images):
                    errors |= encoded.errors
                    for path, i in encoded.index.items():
                        matrix, texts[path] = self._stored(self._model, encoded.values[i])
                        vectors[path] = to_array(matrix, self._dtype)
                peak = peak_memory(self._model.device)
                yield EncodedBlock(vectors, texts, errors, self._shape, peak)

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


def to_array(encoded: torch.Tensor, dtype: str) -> np.ndarray:
    """Convert a tensor to one of the stored dtypes; bfloat16 becomes uint16 of the same bits."""
    values = encoded.to("cpu", getattr(torch, dtype))
    return np.asarray((values.view(torch.uint16) if dtype == "bfloat16" else values).numpy())


def pooled_vector(model: VQAModel, encoded: Any) -> tuple[torch.Tensor, str]:
    """Return an image's vector of unit length as a matrix of one row, and no text.

    Args:
        model: the model that has encoded it.
        encoded: one entry of the result of `VQAModel.encode`.
    """
    vector = model.image_vector(encoded).float()
    return torch.nn.functional.normalize(vector, dim=0)[None], ""
