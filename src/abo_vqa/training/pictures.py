"""Pictures for training: kept vision outputs as near as they fit, or pixels if the tower learns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from abo_vqa.archive import Archive
    from abo_vqa.embed import EmbeddingStore
    from abo_vqa.training.batches import Pictures

SHARE = 0.5  # of the free memory that vision outputs may take


class Resident:
    """The vision outputs of some pictures, held in one tensor, given on `device`."""

    def __init__(self, vectors: Tensor, paths: Sequence[str], device: Any) -> None:
        self.vectors, self.device = vectors, device
        self.place = {path: at for at, path in enumerate(paths)}

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


class Pixels:
    """Pictures from the archive, as the vision tower takes them."""

    def __init__(self, archive: Archive, image_processor: Any) -> None:
        self.archive, self.image_processor = archive, image_processor

    def get(self, paths: Sequence[str]) -> Tensor:
        """[P, 3, H, W]"""
        images = [self.archive.image(path) for path in paths]
        pixels: Tensor = self.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return pixels


def nearest(store: EmbeddingStore, paths: Sequence[str], device: Any) -> Pictures:
    """A `Resident` in the GPU's memory, or in the machine's (pinned for a GPU), where half of what
    is free suffices, else the store itself, memory-mapped.

    Which one it is changes the speed only.
    """
    import psutil
    import torch

    paths = list(dict.fromkeys(paths))
    needed = len(paths) * store.vectors[0].nbytes
    if device.type == "cuda" and needed < SHARE * torch.cuda.mem_get_info(device)[0]:
        return Resident(store.get(paths).to(device), paths, device)
    # Each process of a machine holds its own.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes * needed < SHARE * psutil.virtual_memory().available:
        held = store.get(paths)
        return Resident(held.pin_memory() if device.type == "cuda" else held, paths, device)
    return store
