"""The state of a training: what a checkpoint holds and an exact resume needs.

What a step draws at random follows from the seed, the step's number and the rank; the order of an
epoch follows from the seed and the epoch. So no generator's state has to be saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from abo_vqa.training.history import History
from abo_vqa.training.schedule import make_scheduler

if TYPE_CHECKING:
    from torch import nn

    from abo_vqa.core.config import FinetuneConfig


class TrainingState:
    """Everything that the remaining steps depend on.

    Args:
        model: the model; what it trains is in float32.
        settings: of the optimizer and the schedule.
        steps: number of optimizer steps of the whole training.
        dtype: dtype of the arithmetic; float16 on a GPU needs a gradient scaler.

    Attributes:
        step: number of optimizer steps taken.
        micro_batches: parts that each process cuts its share of a batch into; doubled when memory
            is too small.
        trainable: the parameters that are trained.
        best: their values after the best epoch, on the CPU; None before the first has ended.
    """

    def __init__(
        self, model: nn.Module, settings: FinetuneConfig, steps: int, dtype: torch.dtype
    ) -> None:
        self.step = 0
        self.micro_batches: int = settings.accumulate
        self.history = History()
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        self.best: list[torch.Tensor] | None = None
        self.optimizer = torch.optim.AdamW(
            self.trainable, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.scheduler = make_scheduler(self.optimizer, settings, steps)
        device = next(model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(
            device, enabled=dtype == torch.float16 and device == "cuda"
        )

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self.scheduler.get_last_lr()[0])

    def optimizer_step(self) -> None:
        """Update the parameters and the learning rate, and drop the gradients."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def end_epoch(self, accuracy: float, loss: float, correct: Sequence[float] = ()) -> None:
        """Record an epoch's validation; keep the parameters if it is the best so far."""
        if self.history.add_epoch(accuracy, loss, correct):
            self.best = [p.detach().cpu().clone() for p in self.trainable]

    def restore_best(self) -> None:
        """Give the parameters their values after the best epoch."""
        if self.best is not None:
            self.set_parameters(self.best)

    def set_parameters(self, values: Sequence[torch.Tensor]) -> None:
        """Copy values into the trainable parameters, whatever device they are on."""
        for parameter, value in zip(self.trainable, values, strict=True):
            parameter.data.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the content of a checkpoint."""
        return {
            "step": self.step,
            "micro_batches": self.micro_batches,
            "history": vars(self.history),
            "trainable": [p.detach().cpu() for p in self.trainable],
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's content, which may come from another device."""
        self.step, self.micro_batches = state["step"], state["micro_batches"]
        self.history, self.best = History(**state["history"]), state["best"]
        self.set_parameters(state["trainable"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        # The scaler's state is empty where none was needed, e.g. on a CPU.
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])

    def matches(self, state: dict[str, Any]) -> bool:
        """Return whether a checkpoint's content is a complete state of this training."""
        shapes = [p.shape for p in self.trainable]
        epochs = state["history"]["epochs"]
        return (
            set(state) == set(self.state_dict())
            and [t.shape for t in state["trainable"]] == shapes
            and (not epochs or [t.shape for t in state["best"]] == shapes)
        )
