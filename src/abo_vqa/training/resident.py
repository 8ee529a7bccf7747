"""Vision outputs as near to the arithmetic as they fit: GPU memory, pinned memory, or the disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from abo_vqa.embed import EmbeddingStore

SHARE = 0.5  # of the free memory that vision outputs may take


class Resident:
    """The vision outputs of some pictures, held in one tensor; has EmbeddingStore's `get`."""

    def __init__(self, vectors: Tensor, paths: Sequence[str]) -> None:
        self.vectors = vectors
        self.place = {path: at for at, path in enumerate(paths)}

    def get(self, paths: Sequence[str]) -> Tensor:
        """[paths, tokens, width]"""
        import torch

        rows = torch.tensor([self.place[path] for path in paths], device=self.vectors.device)
        return self.vectors.index_select(0, rows)


def nearest(store: EmbeddingStore, paths: Sequence[str], device: Any) -> Any:
    """A `Resident` on the GPU or in memory where half of what is free suffices, else the store.

    Which one it is changes the speed only.
    """
    import psutil
    import torch

    paths = list(dict.fromkeys(paths))
    needed = len(paths) * store.vectors[0].nbytes
    if device.type == "cuda" and needed < SHARE * torch.cuda.mem_get_info(device)[0]:
        return Resident(store.get(paths).to(device), paths)
    if needed < SHARE * psutil.virtual_memory().available:
        held = store.get(paths)
        return Resident(held.pin_memory() if device.type == "cuda" else held, paths)
    return store
