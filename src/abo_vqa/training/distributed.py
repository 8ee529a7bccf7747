"""Communication between the processes that share a training, over Accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

_T = TypeVar("_T")


class DistributedContext:
    """Rank, world size and collective operations; with one process they do nothing.

    Args:
        accelerator: Accelerate's object, or None if there is one process.
        device: device of the tensors that are exchanged.

    Attributes:
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, accelerator: Accelerator | None, device: torch.device) -> None:
        self._accelerator, self._device = accelerator, device
        self.rank: int = accelerator.process_index if accelerator else 0
        self.world_size: int = accelerator.num_processes if accelerator else 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and messages."""
        return self.rank == 0

    def broadcast(self, value: _T) -> _T:
        """Return the main process's value in every process; tensors in it must be on the CPU."""
        if self._accelerator is None:
            return value
        received: list[_T] = broadcast_object_list([value])
        return received[0]

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """Return the sums of values over all processes."""
        if self._accelerator is None:
            return [float(value) for value in values]
        tensor = torch.tensor([float(v) for v in values], dtype=torch.float64, device=self._device)
        total: list[float] = self._accelerator.reduce(tensor, "sum").tolist()
        return total

    def all_reduce_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Sum the gradients of parameters over all processes, in one exchange."""
        if self._accelerator is None:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = self._accelerator.reduce(torch.cat([g.flatten() for g in grads]), "sum")
        pieces = flat.split([g.numel() for g in grads])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
