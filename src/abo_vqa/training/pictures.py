"""Pictures for training: kept vision outputs as near as they fit, or pixels if the tower learns."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from abo_vqa.core.memory import available_memory, out_of_memory, release_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from abo_vqa.data.archive import Archive
    from abo_vqa.models.embeddings.store import EmbeddingStore
    from abo_vqa.training.batches import Pictures

SHARE = 0.5  # of the free memory that vision outputs may take
PAGE = 4096  # bytes; memory is pinned by whole pages


class Resident:
    """The vision outputs of some pictures, held in one tensor, given on `device`."""

    def __init__(self, vectors: Tensor, paths: Sequence[str], device: Any) -> None:
        self.vectors, self.device = vectors, device
        self.place = {path: at for at, path in enumerate(paths)}
        self.pinned = False

    def get(self, paths: Sequence[str]) -> Tensor:
        """[P, T, W]"""
        import torch

        rows = [self.place[path] for path in paths]
        if self.vectors.device == self.device:
            return self.vectors.index_select(0, torch.tensor(rows, device=self.device))
        # Straight from pinned memory, a picture at a time: no copy on the way.
        taken = self.vectors.new_empty((len(rows), *self.vectors.shape[1:]), device=self.device)
        for at, row in enumerate(rows):
            taken[at].copy_(self.vectors[row], non_blocking=True)
        return taken

    def pin(self) -> None:
        """Keep the system from moving these pages, so that the card fetches them by itself.

        As they are: torch's own pinned memory is rounded up to a power of two. Where the system
        refuses (Windows lets about half of the memory be pinned), copies are slower, no more.
        """
        import torch

        cuda: Any = torch.cuda
        start, size = self.vectors.data_ptr(), self.vectors.nbytes
        code = int(cuda.cudart().cudaHostRegister(start, size, 0))
        self.pinned = code == 0
        if not self.pinned:
            print(f"vision outputs aren't pinned (CUDA's error {code}): copies to the GPU are "
                  "slower", file=sys.stderr)  # fmt: skip
            # CUDA reports a refusal once more, at whatever is started next.
            with suppress(RuntimeError):
                torch.zeros(1, device=self.device)

    def close(self) -> None:
        """Unpin the memory, before it is given back to the system."""
        import torch

        cuda: Any = torch.cuda
        if self.pinned:
            cuda.synchronize(self.device)  # copies may be on their way
            cuda.cudart().cudaHostUnregister(self.vectors.data_ptr())
            self.pinned = False


class Pixels:
    """Pictures from the archive, as the vision tower takes them."""

    def __init__(self, archive: Archive, image_processor: Any) -> None:
        self.archive, self.image_processor = archive, image_processor

    def get(self, paths: Sequence[str]) -> Tensor:
        """[P, 3, H, W]"""
        images = [self.archive.image(path) for path in paths]
        pixels: Tensor = self.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return pixels


def nearest(store: EmbeddingStore, paths: Sequence[str], device: torch.device) -> Pictures:
    """A `Resident` in the GPU's memory, or in the machine's (pinned for a GPU), where half of what
    is free suffices, else the store itself, memory-mapped.

    Which one it is changes the speed only. A `Resident` is the caller's to close.

    Raises:
        UserError: a path isn't in the store, or its picture couldn't be read.
    """
    paths = list(dict.fromkeys(paths))
    paths = [paths[at] for at in store.rows(paths).argsort()]  # as they lie in the file
    for place in places(len(paths) * store.picture_bytes, device):
        vectors = load(store, paths, place)
        if vectors is not None:
            resident = Resident(vectors, paths, device)
            if vectors.device.type != device.type:
                resident.pin()
            return resident
        release_memory()
        print(f"vision outputs don't fit into the memory of {place.type}", file=sys.stderr)
    return store


def places(needed: int, device: torch.device) -> Iterator[torch.device]:
    """The devices, nearest first, in whose memory there seems to be room for so many bytes."""
    import torch

    from abo_vqa.models.embeddings.store import SLICE

    # Each process of a machine holds its own; what is on its way to a card is here for a moment.
    free = SHARE * available_memory() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    card = SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0.0
    if needed < card and min(needed, SLICE) < free:
        yield device
    if needed < free:
        yield torch.device("cpu")


def load(store: EmbeddingStore, paths: Sequence[str], place: torch.device) -> Tensor | None:
    """Vision outputs in a device's memory, from a page's start on; None if there is too little."""
    import torch

    shape = (len(paths), *store.vectors.shape[1:])
    try:
        if place.type == "cpu":
            size = len(paths) * store.picture_bytes
            raw = torch.empty(size + PAGE, dtype=torch.uint8)
            start = -raw.data_ptr() % PAGE
            vectors = raw[start : start + size].view(store.dtype).view(shape)
        else:
            vectors = torch.empty(shape, dtype=store.dtype, device=place)
        store.fill(vectors, paths)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None
    return vectors
