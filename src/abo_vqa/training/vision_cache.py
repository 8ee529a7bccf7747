"""Images for training: vision outputs cached on the GPU, else in host memory, or pixels."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import available_memory, out_of_memory, release_memory

if TYPE_CHECKING:
    from abo_vqa.data.archive import Archive
    from abo_vqa.models.base import VQAModel
    from abo_vqa.models.embeddings.store import EmbeddingStore

logger = get_logger(__name__)

MAX_MEMORY_FRACTION = 0.5  # of the free memory that vision outputs may take
PAGE = 4096  # bytes; memory is pinned by whole pages


class VisionCache:
    """The vision outputs of some images in one tensor.

    Args:
        vectors: the outputs [N, T, V], or [all tokens, V] if images may differ in T; in the memory
            of `device` or of the machine.
        paths: the images, in the order of `vectors`.
        device: device that batches are needed on.
        tokens: T of each image; None if they don't differ.
        texts: the line of text of each image; None if there are none.
    """

    def __init__(
        self,
        vectors: Tensor,
        paths: Sequence[str],
        device: torch.device,
        tokens: Sequence[int] | None = None,
        texts: Sequence[str] | None = None,
    ) -> None:
        self.vectors = vectors
        self._device = device
        self._index = {path: i for i, path in enumerate(paths)}
        self._tokens = [vectors.shape[1]] * len(vectors) if tokens is None else list(tokens)
        self._ends = list(itertools.accumulate(self._tokens))
        self._texts = [""] * len(self._index) if texts is None else list(texts)
        self._pinned = False

    def get(self, paths: Sequence[str]) -> Sequence[Tensor]:
        """Return the outputs of P images on the device: [P, T, V], or P matrices [T, V]."""
        rows = [self._index[path] for path in paths]
        if self.vectors.ndim == 2:
            return [
                self.vectors[self._ends[row] - self._tokens[row] : self._ends[row]].to(
                    self._device, non_blocking=True
                )
                for row in rows
            ]
        if self.vectors.device == self._device:
            selected = self.vectors.index_select(0, torch.tensor(rows, device=self._device))
            return cast("Sequence[Tensor]", selected)
        # Straight from pinned memory, one image at a time: without a copy on the way.
        shape = (len(rows), *self.vectors.shape[1:])
        outputs = self.vectors.new_empty(shape, device=self._device)
        for i, row in enumerate(rows):
            outputs[i].copy_(self.vectors[row], non_blocking=True)
        return cast("Sequence[Tensor]", outputs)

    def texts(self, paths: Sequence[str]) -> list[str]:
        """Return the lines of text of P images."""
        return [self._texts[self._index[path]] for path in paths]

    def token_counts(self, paths: Sequence[str]) -> list[int]:
        """Return T of P images."""
        return [self._tokens[self._index[path]] for path in paths]

    def pin(self) -> None:
        """Pin the memory, so that the GPU fetches from it by itself.

        The tensor is registered as it is: torch's own pinned memory is rounded up to a power of
        two. Where the system refuses (Windows lets about half of the memory be pinned), copies are
        slower.
        """
        cuda: Any = torch.cuda
        start, size = self.vectors.data_ptr(), self.vectors.nbytes
        code = int(cuda.cudart().cudaHostRegister(start, size, 0))
        self._pinned = code == 0
        if not self._pinned:
            logger.warning(
                f"vision outputs aren't pinned (CUDA's error {code}): copies to the GPU are slower"
            )
            # CUDA reports a refusal once more, at whatever is started next.
            with suppress(RuntimeError):
                torch.zeros(1, device=self._device)

    def close(self) -> None:
        """Unpin the memory; call it before the tensor is freed."""
        cuda: Any = torch.cuda
        if self._pinned:
            cuda.synchronize(self._device)  # copies may be on their way
            cuda.cudart().cudaHostUnregister(self.vectors.data_ptr())
            self._pinned = False


class EncodedSource:
    """Stored vision outputs as images for training.

    Args:
        outputs: the vision outputs, in memory or on disk.
        vqa: the model that they are of.

    Attributes:
        outputs: see above.
        resident: whether they are in memory.
    """

    def __init__(self, outputs: VisionCache | EmbeddingStore, vqa: VQAModel) -> None:
        self.outputs, self._vqa = outputs, vqa
        self.resident = isinstance(outputs, VisionCache)

    def get(self, paths: Sequence[str]) -> Any:
        """Return P images as `VQAModel.encode` does, for BLIP [P, T, V]."""
        return self._vqa.join_encoded(self.outputs.get(paths), self.outputs.texts(paths))

    def token_counts(self, paths: Sequence[str]) -> list[int]:
        """Return how many tokens P images have."""
        return self.outputs.token_counts(paths)


class PixelSource:
    """Preprocessed images from the archive, for a vision part that is trained.

    Args:
        archive: the images.
        vqa: resizes and normalises them.

    Attributes:
        resident: whether they are in memory, which they aren't.
    """

    resident = False

    def __init__(self, archive: Archive, vqa: VQAModel) -> None:
        self._archive, self._vqa = archive, vqa

    def get(self, paths: Sequence[str]) -> Any:
        """Return P images as `VQAModel.preprocess` does, for BLIP pixels [P, 3, H, W]."""
        return self._vqa.preprocess([self._archive.image(path) for path in paths])

    def token_counts(self, paths: Sequence[str]) -> list[int]:
        """Return zeros: how many tokens an image has isn't known before it is read."""
        return [0] * len(paths)


def cache_vision_outputs(
    store: EmbeddingStore, paths: Sequence[str], device: torch.device
) -> VisionCache | EmbeddingStore:
    """Load vision outputs into memory, as near to the device as they fit.

    Which source it is changes the speed only.

    Args:
        store: the vision outputs on disk.
        paths: the images that are needed.
        device: device that batches are needed on.

    Returns:
        A `VisionCache` in the GPU's memory, or in the machine's (pinned for a GPU), where half of
        the free memory suffices, to be closed by the caller; else the memory-mapped store itself.

    Raises:
        UserError: a path isn't in the store, or its image couldn't be read.
    """
    paths = list(dict.fromkeys(paths))
    paths = [paths[i] for i in store.rows(paths).argsort()]  # in the order of the file
    size = math.prod(store.shape_of(paths)) * store.dtype.itemsize
    for memory in _devices_with_room(size, device):
        vectors = _load(store, paths, size, memory)
        if vectors is not None:
            ragged = vectors.ndim == 2
            tokens = store.token_counts(paths) if ragged else None
            texts = store.texts(paths) if ragged else None
            cache = VisionCache(vectors, paths, device, tokens, texts)
            if vectors.device.type != device.type:
                cache.pin()
            return cache
        release_memory()
        logger.warning(f"vision outputs don't fit into the memory of {memory.type}")
    return store


def _devices_with_room(size: int, device: torch.device) -> Iterator[torch.device]:
    """The devices, nearest first, whose memory seems to have room for this many bytes."""
    from abo_vqa.models.embeddings.store import SLICE  # with pandas, which benchmarks do without

    # Each process of a machine holds its own; what is on its way to a GPU is here for a moment.
    free = MAX_MEMORY_FRACTION * available_memory() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free_gpu = (
        MAX_MEMORY_FRACTION * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0.0
    )
    if size < free_gpu and min(size, SLICE) < free:
        yield device
    if size < free:
        yield torch.device("cpu")


def _load(
    store: EmbeddingStore, paths: Sequence[str], size: int, device: torch.device
) -> Tensor | None:
    """Vision outputs of `size` bytes in a device's memory; None if it is too small.

    In the machine's memory they start with a page, as pinning needs it.
    """
    shape = store.shape_of(paths)
    try:
        if device.type == "cpu":
            raw = torch.empty(size + PAGE, dtype=torch.uint8)
            start = -raw.data_ptr() % PAGE
            vectors = raw[start : start + size].view(store.dtype).view(shape)
        else:
            vectors = torch.empty(shape, dtype=store.dtype, device=device)
        store.fill(vectors, paths)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None
    return vectors
