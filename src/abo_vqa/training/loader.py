"""Loads batches onto the device, one ahead of the training step.

Not torch's `DataLoader`. Vision outputs that are resident on a GPU are selected there, which a
worker process can't do, and without workers a `DataLoader` doesn't load ahead. A batch whose
micro-batches turn out too large must be split again. And a worker passes each batch on in shared
memory: with one worker, reading 3 images of BLIP-base (5.3 MB in float32) from a mapped file took
10.8 ms per batch at best, the thread used here 0.8 ms, and no loading ahead 1.9 ms (2 CPU cores
shared with other work).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from abo_vqa.core.memory import out_of_memory
from abo_vqa.models.sources import prefetch
from abo_vqa.training.sampler import split_batch

if TYPE_CHECKING:
    import torch

    from abo_vqa.training.batch import Batch
    from abo_vqa.training.dataset import VqaDataset
    from abo_vqa.training.distributed import DistributedContext
    from abo_vqa.training.state import TrainingState


class BatchLoader:
    """Loads each process's micro-batches of a batch.

    Args:
        dataset: the rows.
        state: has the number of micro-batches.
        distributed: the processes that share each batch.
        device: where the tensors go.
    """

    def __init__(
        self,
        dataset: VqaDataset,
        state: TrainingState,
        distributed: DistributedContext,
        device: torch.device,
    ) -> None:
        self._dataset, self._state = dataset, state
        self._distributed, self._device = distributed, device

    def prefetch(
        self, batches: Sequence[list[int]]
    ) -> Generator[tuple[list[int], list[Batch] | None], None, None]:
        """Yield each batch's rows with its micro-batches, on a GPU or from a disk loaded ahead.

        The micro-batches are None where there is no memory for them beside the batch before. Only
        the yielded list holds on to them: clearing it frees their memory.
        """
        if self._device.type == "cpu" and self._dataset.images.resident:
            yield from ((batch, self.load(batch)) for batch in batches)
            return
        with closing(prefetch(batches, self._load_ahead)) as loaded:
            for batch, ahead in loaded:
                if ahead is None:
                    yield batch, None
                    continue
                split, micro_batches = ahead
                if split != self._split(batch):  # memory was too small meanwhile
                    micro_batches.clear()
                    yield batch, self.load(batch)
                else:
                    yield batch, micro_batches

    def load(self, batch: Sequence[int]) -> list[Batch] | None:
        """Return this process's micro-batches of a batch; None if memory is too small for them."""
        try:
            return self._collate(self._split(batch))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _load_ahead(self, batch: Sequence[int]) -> tuple[list[list[int]], list[Batch]]:
        """The rows of this process's micro-batches of a batch, and the micro-batches."""
        split = self._split(batch)
        return split, self._collate(split)

    def _split(self, batch: Sequence[int]) -> list[list[int]]:
        """The rows of this process's micro-batches."""
        rank, world_size = self._distributed.rank, self._distributed.world_size
        parts = split_batch(
            batch, self._dataset.image_paths, self._state.micro_batches * world_size
        )
        return parts[rank::world_size]

    def _collate(self, split: Sequence[Sequence[int]]) -> list[Batch]:
        """The micro-batches on the device."""
        return [self._dataset.collate(rows).to(self._device) for rows in split]

    def halve(self, batch: Sequence[int]) -> bool:
        """Split batches into twice as many micro-batches from now on.

        Returns:
            Whether that makes this batch's smaller: an image's questions stay together.
        """
        images = len({self._dataset.image_paths[i] for i in batch})
        if self._state.micro_batches * self._distributed.world_size >= images:
            return False
        self._state.micro_batches *= 2
        return True
