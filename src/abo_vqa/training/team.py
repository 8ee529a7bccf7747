"""The processes that share one training, each with its part of every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Team:
    """What processes tell each other; one process is a team, too.

    Attributes:
        process: this process's number. processes: how many there are.

    Args:
        accelerator: Accelerate's, where there are several.
        device: where the tensors to be exchanged are.
    """

    def __init__(self, accelerator: Any, device: Any) -> None:
        self.accelerator, self.device = accelerator, device
        self.process: int = accelerator.process_index if accelerator else 0
        self.processes: int = accelerator.num_processes if accelerator else 1

    def first(self, value: Any) -> Any:
        """The first process's value, whatever the others have; tensors in it are the CPU's."""
        if self.processes == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def total(self, values: Sequence[float]) -> list[float]:
        """Values summed over all processes."""
        import torch

        if self.processes == 1:
            return [float(value) for value in values]
        tensor = torch.tensor([float(v) for v in values], dtype=torch.float64, device=self.device)
        total: list[float] = self.accelerator.reduce(tensor, "sum").tolist()
        return total

    def share_gradients(self, trainable: Sequence[Any]) -> None:
        """Sum parameters' gradients over all processes, in one exchange."""
        import torch

        if self.processes == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trainable]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), "sum")
        pieces = flat.split([g.numel() for g in grads])
        for parameter, piece in zip(trainable, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
