"""One optimizer step: gradients of a batch's micro-batches, summed over all processes."""

from __future__ import annotations

import math
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_json
from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import out_of_memory, release_memory

if TYPE_CHECKING:
    from abo_vqa.core.config import FinetuneConfig
    from abo_vqa.training.batch import Batch
    from abo_vqa.training.dataset import VqaDataset
    from abo_vqa.training.distributed import DistributedContext
    from abo_vqa.training.loader import BatchLoader
    from abo_vqa.training.state import TrainingState

logger = get_logger(__name__)

OOM_ADVICE = (
    "Use a smaller lora.r, fewer lora.targets, lora.gradient_checkpointing: true, "
    "compute.dtype: bfloat16, or a larger GPU."
)


class NonFiniteLossError(UserError):
    """The loss or its gradient isn't a finite number.

    Args:
        step: the step's number.
        rows_file: where the ids of the batch's rows are.

    Attributes:
        reason: what is wrong, without the file and the advice.
    """

    def __init__(self, step: int, rows_file: Path) -> None:
        self.reason = f"the loss or its gradient at step {step} isn't finite"
        super().__init__(
            f"{self.reason}. The batch's row ids are in {rows_file}. Try a lower lora.lr, "
            "lora.max_grad_norm: 1.0, or compute.dtype: bfloat16."
        )


@dataclass(frozen=True)
class StepResult:
    """What a step reports.

    Attributes:
        loss: mean cross-entropy per answer token of the batch.
        gradient_norm: norm of the gradient, before clipping.
        stop: whether any process has been told to stop.
    """

    loss: float
    gradient_norm: float
    stop: bool


def autocast_context(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return torch's autocast to a half precision; with float32 nothing is cast."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


class TrainStep:
    """Takes optimizer steps, with smaller micro-batches wherever memory is too small.

    Args:
        dataset: the rows, and the loss of their family.
        state: parameters, optimizer and the number of micro-batches.
        loader: loads a batch again after it was split further.
        distributed: the processes that share each batch.
        settings: `max_grad_norm` and `compile`.
        seed: decides what dropout draws, together with the step and the rank.
        dtype: dtype of the arithmetic.
        folder: where the row ids of a batch with a non-finite loss are written.

    Attributes:
        state: parameters and optimizer.
        device: the model's device.
        dtype: dtype of the arithmetic.
    """

    def __init__(
        self,
        dataset: VqaDataset,
        state: TrainingState,
        loader: BatchLoader,
        distributed: DistributedContext,
        settings: FinetuneConfig,
        seed: int,
        dtype: torch.dtype,
        folder: Path,
    ) -> None:
        self.device = dataset.family.device
        self._dataset, self.state, self._loader = dataset, state, loader
        self._distributed = distributed
        self._max_norm = settings.max_grad_norm or math.inf
        loss = dataset.family.loss
        self._loss = torch.compile(loss, dynamic=True) if settings.compile else loss
        self._seed, self.dtype, self._folder = seed, dtype, folder

    def __call__(
        self, batch: list[int], micro_batches: list[Batch] | None, stop: bool = False
    ) -> StepResult:
        """Take one optimizer step.

        Args:
            batch: the rows of the batch.
            micro_batches: this process's share of it, as the loader gave it; cleared if memory is
                too small for it.
            stop: whether this process has been told to stop.

        Raises:
            NonFiniteLossError: the loss or its gradient isn't a finite number.
            UserError: a single image's questions don't fit into memory.
        """
        state = self.state
        loss, stop = self._accumulate(batch, micro_batches, stop)
        self._distributed.all_reduce_gradients(state.trainable)
        state.scaler.unscale_(state.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(state.trainable, self._max_norm))
        # A scaler meets infinite gradients by design: it skips the step and lowers the scale.
        if not math.isfinite(loss) or not (math.isfinite(norm) or state.scaler.is_enabled()):
            self._raise_non_finite(batch)
        state.optimizer_step()
        return StepResult(loss, norm, stop)

    def _accumulate(
        self, batch: list[int], micro_batches: list[Batch] | None, stop: bool
    ) -> tuple[float, bool]:
        """Compute the gradients in as many micro-batches as memory needs.

        Returns:
            The batch's mean loss per token over all processes, and whether any of them must stop.
        """
        if micro_batches is None:  # the batch before is freed by now
            release_memory()
            micro_batches = self._loader.load(batch)
        while True:
            loss, failed = self.backward(batch, micro_batches)
            loss, failures, stops = self._distributed.all_reduce([loss, failed, stop])
            if not failures:
                return loss, stops > 0
            if micro_batches is not None:
                micro_batches.clear()  # the caller holds the list: this frees its memory
            self._halve(batch)
            micro_batches = self._loader.load(batch)

    def backward(self, batch: list[int], micro_batches: list[Batch] | None) -> tuple[float, bool]:
        """Add the gradients of the batch's mean loss per token, as far as they are this process's.

        Args:
            batch: the rows of the batch.
            micro_batches: this process's share of it; None if memory was too small to load it.

        Returns:
            This process's share of the mean loss, and whether memory was too small.
        """
        if micro_batches is None:
            return 0.0, True
        key = f"{self._seed}:{self.state.step}:{self._distributed.rank}"
        torch.manual_seed(random.Random(key).getrandbits(63))
        tokens = self._dataset.answer_tokens(batch)
        try:
            total = torch.zeros((), device=self.device)
            for micro_batch in micro_batches:
                with autocast_context(self.device, self.dtype):
                    loss = self._loss(micro_batch) / tokens
                torch.autograd.backward(self.state.scaler.scale(loss))
                total += loss.detach()
            return float(total), False
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return 0.0, True

    def _halve(self, batch: list[int]) -> None:
        """Split batches into twice as many micro-batches, after memory was too small."""
        self.state.optimizer.zero_grad(set_to_none=True)
        if not self._loader.halve(batch):
            raise UserError(
                f"out of memory with a single image's questions at a time. {OOM_ADVICE}"
            )
        if self._distributed.is_main:
            parts = self.state.micro_batches
            logger.warning(
                f"out of memory: splitting batches into {parts} micro-batches from now on"
            )
        release_memory()

    def _raise_non_finite(self, batch: list[int]) -> None:
        """Report the rows whose loss isn't a finite number."""
        step = self.state.step + 1
        file = self._folder / f"not-a-number-{step}.json"
        if self._distributed.is_main:
            write_json([self._dataset.row_ids[i] for i in batch], file)
        raise NonFiniteLossError(step, file)
