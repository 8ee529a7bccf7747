"""The training loop: any number of processes and micro-batches, the same effective batch.

Every process keeps a whole model and takes its share of each batch's pictures; gradients are summed
and every process takes the same step. What a step draws at random (dropout) follows from the seed,
the step's number and the process's, and an epoch's order from the seed and its number, so that the
state to save is small and a resumed run goes through the very same numbers.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_json
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.core.processes import reclaimed_by, until_reclaimed
from abo_vqa.core.summary import Log
from abo_vqa.training.batches import Batch, Examples, epoch_plan
from abo_vqa.training.curve import Curve
from abo_vqa.training.feed import Feed
from abo_vqa.training.history import History
from abo_vqa.training.loss import summed_loss
from abo_vqa.training.schedule import factor
from abo_vqa.training.team import Team

if TYPE_CHECKING:
    from abo_vqa.config import FinetuneConfig
    from abo_vqa.training.checkpoints import Checkpoints

_Validate = Callable[[int, int], list[float]]
"""(process, processes) → this process's right answers, rows, summed loss, answer tokens."""

_STATE = {"step", "micro", "history", "trainable", "best", "optimizer", "scheduler", "scaler"}

_NO_ROOM = "Use a smaller lora.r, fewer lora.targets, compute.dtype: bfloat16, or a larger GPU."


class NonFiniteLossError(UserError):
    """The loss or its gradient isn't a number."""


class Trainer:
    """LoRA training of one model, resumable at any step.

    Args:
        model: PEFT's model around BlipForQuestionAnswering; what it trains is in float32.
        rows: positions in the examples to train on.
        dtype: of the arithmetic (torch.float32, float16 or bfloat16).
        accelerator: Accelerate's, where several processes share the work.
    """

    def __init__(
        self,
        model: Any,
        examples: Examples,
        rows: Sequence[int],
        settings: FinetuneConfig,
        seed: int,
        checkpoints: Checkpoints,
        dtype: Any,
        accelerator: Any = None,
    ) -> None:
        import torch

        self.model, self.blip = model, model.get_base_model()
        self.examples, self.settings, self.seed = examples, settings, seed
        self.checkpoints, self.dtype = checkpoints, dtype
        self.device = next(model.parameters()).device
        self.team = Team(accelerator, self.device)
        self.process = self.team.process
        # A batch has `accumulate` parts in each process; more after memory was too small.
        self.feed = Feed(examples, self.team, self.device, settings.accumulate)
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        size = settings.batch_size * settings.accumulate
        lengths = [len(question) for question in examples.questions]
        self.plans = [
            epoch_plan(examples.paths, rows, size, seed, epoch, settings.group_pictures, lengths)
            for epoch in range(1, settings.epochs + 1)
        ]
        self.optimizer = torch.optim.AdamW(
            self.trainable, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, factor(settings, sum(map(len, self.plans)))
        )
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=dtype == torch.float16 and self.device.type == "cuda"
        )
        self.loss = torch.compile(summed_loss, dynamic=True) if settings.compile else summed_loss
        self.history = History()
        self.best: list[Any] | None = None  # what is trained, as it was after the best epoch
        self.step = 0
        self.trained_rows, self.seconds = 0, 0.0  # since the (re)start

    @property
    def speed(self) -> float:
        """Rows a second since the (re)start, validation left out; 0 if nothing was left to do."""
        return self.trained_rows / self.seconds if self.seconds else 0.0

    # ---- state

    def state(self) -> dict[str, Any]:
        """Everything that the remaining steps depend on."""
        return {
            "step": self.step,
            "micro": self.feed.micro,
            "history": vars(self.history),
            "trainable": [p.detach().cpu() for p in self.trainable],
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def save(self) -> None:
        if self.process == 0:
            self.checkpoints.save(self.step, self.state())

    def resume(self) -> None:
        """Go on from the newest checkpoint, the first process's, if there is one.

        It may be another device's: what is loaded takes the device of what is trained.
        """
        state = self.checkpoints.load(self.fits) if self.process == 0 else None
        state = self.team.first(state)
        if state is None:
            return
        self.step, self.feed.micro = state["step"], state["micro"]
        self.history, self.best = History(**state["history"]), state["best"]
        self.put(state["trainable"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        # It is empty where no scaler was needed, e.g. on a CPU.
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])

    def fits(self, state: dict[str, Any]) -> bool:
        """Whether a checkpoint's content is a whole state of this training."""
        wanted = [p.shape for p in self.trainable]
        epochs = state["history"]["epochs"]
        return (
            set(state) == _STATE
            and [t.shape for t in state["trainable"]] == wanted
            and (not epochs or [t.shape for t in state["best"]] == wanted)
        )

    def put(self, values: Sequence[Any]) -> None:
        """Give what is trained the values of a state."""
        for parameter, value in zip(self.trainable, values, strict=True):
            parameter.data.copy_(value)

    # ---- the loop

    def train(self, validate: _Validate, log: Log, log_every: int | None = None) -> History:
        """Go through the epochs that are left; the model ends as it was after the best one.

        Args:
            log_every: steps that a point of the logged curves is the mean of; see `Curve`.
        Raises:
            Reclaimed: SIGTERM or Ctrl-C came; the state is saved.
            OSError: no space left for a checkpoint, e.g.; the last one is whole.
            NotANumber: the loss or its gradient isn't.
            UserError: one picture's questions don't fit into memory, or something else doesn't.
        """
        try:
            return self.go_on(validate, log, log_every)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(f"out of memory after step {self.step}. {_NO_ROOM}") from error

    def go_on(self, validate: _Validate, log: Log, log_every: int | None) -> History:
        self.resume()
        curve = Curve(log, sum(map(len, self.plans)), log_every, self.device)
        with until_reclaimed() as reclaimed, self.bar() as bar:
            while len(self.history.epochs) < self.settings.epochs:
                epoch = len(self.history.epochs) + 1
                began = time.monotonic()
                plan = self.plans[epoch - 1]
                done = self.step - sum(map(len, self.plans[: epoch - 1]))
                self.epoch(plan[done:], reclaimed, bar, curve)
                seconds = time.monotonic() - began
                self.close_epoch(epoch, validate, log)
                if done == 0:  # else a part of it ran before an interruption
                    log({"epoch_seconds": seconds}, self.step)
                # A signal that came since the last step isn't left to the next: there may be none.
                if self.team.total([bool(reclaimed())])[0]:
                    raise reclaimed_by(reclaimed(), f"after epoch {epoch}")
        if self.best is not None:
            self.put(self.best)
        return self.history

    def bar(self) -> Any:
        """Progress in rows over all epochs, in a log file a line every 10 s."""
        from tqdm import tqdm

        batches = [len(batch) for plan in self.plans for batch in plan]
        return tqdm(
            total=sum(batches),
            initial=sum(batches[: self.step]),
            desc="fine-tuning",
            unit="row",
            mininterval=0.2 if sys.stderr.isatty() else 10.0,
            disable=self.process > 0,
        )

    def epoch(
        self, plan: list[list[int]], reclaimed: Callable[[], int], bar: Any, curve: Curve
    ) -> None:
        """The given batches, saving every few minutes; the last one is a point of the curves."""
        with closing(self.feed.ahead(plan)) as batches:
            self.steps(batches, reclaimed, bar, curve)
        curve.point(self.step)

    def steps(
        self,
        batches: Iterable[tuple[list[int], list[Batch] | None]],
        reclaimed: Callable[[], int],
        bar: Any,
        curve: Curve,
    ) -> None:
        self.model.train()
        saved = began = time.monotonic()
        for batch, ready in batches:
            rate = float(self.scheduler.get_last_lr()[0])
            loss, norm, stop = self.update(batch, ready, bool(reclaimed()))
            self.step += 1
            self.history.steps.append({"step": self.step, "loss": loss, "lr": rate})
            now = time.monotonic()
            curve.add(self.step, loss, rate, norm, len(batch), now - began)
            self.trained_rows += len(batch)
            self.seconds += now - began
            began = now
            bar.set_postfix_str(f"epoch {len(self.history.epochs) + 1}, loss {loss:.3f}", False)
            bar.update(len(batch))
            if stop:
                curve.point(self.step)
                self.save()
                raise reclaimed_by(reclaimed(), f"at step {self.step}")
            if now - saved > 60 * self.settings.checkpoint_minutes:
                self.save()
                saved = now

    def close_epoch(self, epoch: int, validate: _Validate, log: Log) -> None:
        """Validate, keep what was trained if it is the best, save."""
        self.model.eval()
        right, rows, loss, tokens = self.team.total(validate(self.process, self.team.processes))
        found = {"validation_accuracy": right / rows, "validation_loss": loss / tokens}
        self.history.epochs.append({"epoch": epoch, **found})
        if self.history.better(right / rows, loss / tokens):
            self.history.best_epoch = epoch
            self.history.best_accuracy, self.history.best_loss = right / rows, loss / tokens
            self.best = [p.detach().cpu().clone() for p in self.trainable]
        self.save()
        log(found, self.step)

    def prepare(self, batch: list[int]) -> list[Batch] | None:
        """This process's parts of a batch, on the device; None if memory is too small for them."""
        return self.feed.prepare(batch)

    # ---- a step

    def update(
        self, batch: list[int], ready: list[Batch] | None, stop: bool
    ) -> tuple[float, float, bool]:
        """One optimiser step.

        Args:
            ready: what `prepare` gave; emptied when there is too little memory.
        Returns:
            The batch's mean loss a token, the gradient's norm, and whether any process must stop.
        """
        import torch

        if ready is None:  # the batch before is gone by now
            release_memory()
            ready = self.prepare(batch)
        while True:
            loss, full = (0.0, True) if ready is None else self.gradients(batch, ready)
            loss, failed, stops = self.team.total([loss, full, stop])
            if not failed:
                break
            if ready is not None:
                ready.clear()  # for whoever holds the list: its memory is free then
            self.halve(batch)
            ready = self.prepare(batch)
        self.team.share_gradients(self.trainable)
        self.scaler.unscale_(self.optimizer)
        limit = self.settings.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.trainable, limit))
        # A scaler meets infinite gradients by design: it skips the step and scales less.
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.is_enabled()):
            self.refuse(batch)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm, stops > 0

    def gradients(self, batch: list[int], ready: list[Batch]) -> tuple[float, bool]:
        """Add the gradients of the batch's mean loss a token, as far as they are this process's.

        Returns:
            This process's share of the mean loss, and whether memory was too small.
        """
        import torch

        torch.manual_seed(random.Random(f"{self.seed}:{self.step}:{self.process}").getrandbits(63))
        tokens = self.examples.tokens(batch)
        cast = self.dtype != torch.float32
        try:
            total = torch.zeros((), device=self.device)
            for part in ready:
                with torch.autocast(self.device.type, self.dtype) if cast else nullcontext():
                    loss = self.loss(self.blip, part) / tokens
                torch.autograd.backward(self.scaler.scale(loss))
                total += loss.detach()
            return float(total), False
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return 0.0, True

    def halve(self, batch: list[int]) -> None:
        """Cut batches into twice as many parts from now on, after memory was too small."""
        self.optimizer.zero_grad(set_to_none=True)
        if not self.feed.halve(batch):
            raise UserError(
                f"out of memory with a single picture's questions at a time. {_NO_ROOM}"
            )
        if self.process == 0:
            print(f"out of memory: batches in {self.feed.micro} parts from now on", file=sys.stderr)
        release_memory()

    def refuse(self, batch: list[int]) -> None:
        """Say which rows made the loss something that isn't a number."""
        rows = [self.examples.names[i] for i in batch]
        where = self.checkpoints.folder / f"not-a-number-{self.step + 1}.json"
        if self.process == 0:
            write_json(rows, where)
        raise NonFiniteLossError(
            f"the loss or its gradient at step {self.step + 1} isn't a number. The batch's row ids "
            f"are in {where}. Try a lower lora.lr, lora.max_grad_norm: 1.0, or compute.dtype: "
            "bfloat16."
        )
