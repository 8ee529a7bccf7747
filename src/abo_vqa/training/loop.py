"""The training loop.

Every process holds the whole model and takes its share of each batch's images; gradients are
summed, and every process takes the same step (data parallelism). A resumed training goes through
the very same numbers; see `state`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NoReturn

import torch
from tqdm import tqdm

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import out_of_memory
from abo_vqa.core.processes import deferred_signals, terminated_by
from abo_vqa.core.progress import progress_bar
from abo_vqa.core.summary import Log
from abo_vqa.training.distributed import DistributedContext
from abo_vqa.training.history import History
from abo_vqa.training.loader import BatchLoader
from abo_vqa.training.metrics import MetricLogger
from abo_vqa.training.sampler import epoch_batches
from abo_vqa.training.state import TrainingState
from abo_vqa.training.step import OOM_ADVICE, TrainStep

if TYPE_CHECKING:
    from accelerate import Accelerator
    from peft import PeftModel

    from abo_vqa.core.config import FinetuneConfig
    from abo_vqa.training.checkpoints import CheckpointManager
    from abo_vqa.training.dataset import VqaDataset

_Validate = Callable[[int, int], list[float]]
"""(rank, world size) → this process's correct answers, rows, summed loss, answer tokens; then a 1
for each row that it answered correctly, a 0 for every other."""


class Trainer:
    """LoRA training of one model, resumable at any step.

    Args:
        model: PEFT's model around the base; what it trains is in float32.
        dataset: the rows as tokens and images, and the loss of their family.
        rows: positions in the dataset to train on.
        settings: settings of the training.
        seed: decides the order of the rows and what dropout draws.
        checkpoints: where the state is saved.
        dtype: dtype of the arithmetic (float32, float16 or bfloat16).
        accelerator: Accelerate's object, where several processes share the work.

    Attributes:
        model: the model.
        device: its device.
        state: what a checkpoint holds.
        loader: loads batches.
        step: takes an optimizer step.
        rows_per_second: speed since the (re)start, without validation; 0 if no step was left.
    """

    def __init__(
        self,
        model: PeftModel,
        dataset: VqaDataset,
        rows: Sequence[int],
        settings: FinetuneConfig,
        seed: int,
        checkpoints: CheckpointManager,
        dtype: torch.dtype,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.model, self._settings, self._checkpoints = model, settings, checkpoints
        self.device = next(model.parameters()).device
        size = settings.batch_size * settings.accumulate
        self._epochs = [
            epoch_batches(
                dataset.image_paths,
                rows,
                size,
                seed,
                epoch,
                settings.group_pictures,
                dataset.lengths,
            )
            for epoch in range(1, settings.epochs + 1)
        ]
        self._total_steps = sum(map(len, self._epochs))
        self._distributed = DistributedContext(accelerator, self.device)
        self.state = TrainingState(model, settings, self._total_steps, dtype)
        self.loader = BatchLoader(dataset, self.state, self._distributed, self.device)
        self.step = TrainStep(
            dataset, self.state, self.loader, self._distributed, settings, seed, dtype,
            checkpoints.folder,
        )  # fmt: skip
        self.rows_per_second = 0.0

    def train(self, validate: _Validate, log: Log, log_every: int | None = None) -> History:
        """Train the epochs that are left; the model ends as it was after the best one.

        Args:
            validate: measures the model on held-out rows.
            log: receives the metrics.
            log_every: steps per point of the logged curves; see `MetricLogger`.

        Raises:
            TerminatedError: SIGTERM or Ctrl-C came; the state is saved.
            OSError: a checkpoint can't be written, e.g. on a full disk; the last one is complete.
            NonFiniteLossError: the loss or its gradient isn't a finite number.
            UserError: memory is too small, even for a single image's questions.
        """
        try:
            self._resume()
            self._train(validate, log, log_every)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(f"out of memory after step {self.state.step}. {OOM_ADVICE}") from error
        self.state.restore_best()
        return self.state.history

    def _train(self, validate: _Validate, log: Log, log_every: int | None) -> None:
        metrics = MetricLogger(log, self._total_steps, log_every, self.device, len(self._epochs))
        with deferred_signals() as signal_number, self._progress_bar() as progress:
            for epoch in range(len(self.state.history.epochs), self._settings.epochs):
                started = time.monotonic()
                done = self.state.step - sum(map(len, self._epochs[:epoch]))
                self._train_batches(self._epochs[epoch][done:], metrics, progress, signal_number)
                seconds = time.monotonic() - started
                self._end_epoch(validate, log)
                if done == 0:  # else a part of the epoch was before an interruption
                    log({"epoch_seconds": seconds}, self.state.step)
                # A signal since the last step isn't left to the next one: there may be none.
                if self._distributed.all_reduce([bool(signal_number())])[0]:
                    raise terminated_by(signal_number(), f"after epoch {epoch + 1}")
        self.rows_per_second = metrics.rows_per_second

    def _train_batches(
        self,
        batches: Sequence[list[int]],
        metrics: MetricLogger,
        progress: tqdm[NoReturn],
        signal_number: Callable[[], int],
    ) -> None:
        """Train an epoch's batches, with a checkpoint every few minutes."""
        self.model.train()
        state = self.state
        saved = previous = time.monotonic()
        with closing(self.loader.prefetch(batches)) as loaded:
            for batch, micro_batches in loaded:
                lr = state.learning_rate
                result = self.step(batch, micro_batches, stop=bool(signal_number()))
                now = time.monotonic()
                state.history.steps.append({"step": state.step, "loss": result.loss, "lr": lr})
                values = {"loss": result.loss, "lr": lr, "gradient_norm": result.gradient_norm}
                metrics.update(state.step, values, len(batch), now - previous)
                previous = now
                epoch = len(state.history.epochs) + 1
                progress.set_postfix_str(f"epoch {epoch}, loss {result.loss:.3f}", refresh=False)
                progress.update(len(batch))
                if result.stop:
                    metrics.flush(state.step)
                    self._save()
                    raise terminated_by(signal_number(), f"at step {state.step}")
                if now - saved > 60 * self._settings.checkpoint_minutes:
                    self._save()
                    saved = now
        metrics.flush(state.step)

    def _end_epoch(self, validate: _Validate, log: Log) -> None:
        """Validate, keep the parameters if they are the best so far, and save."""
        self.model.eval()
        shares = validate(self._distributed.rank, self._distributed.world_size)
        correct, rows, loss, tokens, *by_row = self._distributed.all_reduce(shares)
        accuracy, loss = correct / rows, loss / tokens
        self.state.end_epoch(accuracy, loss, by_row)
        self._save()
        log({"validation_accuracy": accuracy, "validation_loss": loss}, self.state.step)

    def _save(self) -> None:
        if self._distributed.is_main:
            self._checkpoints.save(self.state.step, self.state.state_dict())

    def _resume(self) -> None:
        """Continue from the main process's newest checkpoint, if there is one."""
        main = self._distributed.is_main
        checkpoint = self._checkpoints.load(self.state.matches) if main else None
        checkpoint = self._distributed.broadcast(checkpoint)
        if checkpoint is not None:
            self.state.load_state_dict(checkpoint)

    def _progress_bar(self) -> tqdm[NoReturn]:
        """Rows over all epochs; in a log file one line every 10 s."""
        sizes = [len(batch) for epoch in self._epochs for batch in epoch]
        return progress_bar(
            sum(sizes),
            initial=sum(sizes[: self.state.step]),
            desc="fine-tuning",
            unit="row",
            disable=not self._distributed.is_main,
        )
