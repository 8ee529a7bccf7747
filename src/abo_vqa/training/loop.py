"""The training loop: any number of processes and micro-batches, the same effective batch."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from abo_vqa.config import Lora
from abo_vqa.errors import Reclaimed, UserError
from abo_vqa.io import progress, write_json
from abo_vqa.models.blip_attention import answer_logits, read_questions
from abo_vqa.stage import Log
from abo_vqa.training.batches import IGNORED, Batch, Examples, epoch_plan, parts

if TYPE_CHECKING:
    import torch

    from abo_vqa.training.checkpoints import Checkpoints


def summed_loss(blip: Any, batch: Batch) -> torch.Tensor:
    """Cross-entropy of the answers' tokens, the end token among them, summed; pads left out."""
    import torch.nn.functional as F

    states = read_questions(
        blip.text_encoder, batch.questions, batch.mask, batch.pictures, batch.which
    )
    logits = answer_logits(blip.text_decoder, batch.inputs, states, batch.mask)  # [B, A, V]
    return F.cross_entropy(
        logits.flatten(0, 1).float(), batch.labels.flatten(),
        ignore_index=IGNORED, reduction="sum",
    )  # fmt: skip


def factor(settings: Lora, steps: int) -> Callable[[int], float]:
    """Learning rate's factor by step: warm-up, then linear, cosine or constant."""
    warm = int(settings.warmup * steps)

    def at(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        left = 1 - (step - warm) / max(1, steps - warm)
        if settings.schedule == "constant":
            return 1.0
        return left if settings.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))

    return at


@dataclass
class History:
    """What training saw. Deterministic: no timings."""

    steps: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_accuracy: float = -1.0


@contextmanager
def until_reclaimed() -> Iterator[Callable[[], bool]]:
    """Remember SIGTERM instead of dying of it; yields a function that tells whether it came."""
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        came = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, before)


class Trainer:
    """LoRA training of one model, resumable at any step.

    Args:
        model: PEFT's model around BlipForQuestionAnswering. rows: positions to train on.
        validate: accuracy of the model as it is. keep_best: called when an epoch is the best yet.
    """

    def __init__(
        self,
        model: Any,
        examples: Examples,
        rows: Sequence[int],
        settings: Lora,
        seed: int,
        checkpoints: Checkpoints,
        dtype: Any = None,
    ) -> None:
        import torch

        self.model, self.blip = model, model.get_base_model()
        self.examples, self.rows, self.settings, self.seed = examples, rows, settings, seed
        self.checkpoints = checkpoints
        self.device = next(model.parameters()).device
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        size = settings.batch_size * settings.accumulate
        self.plans = [
            epoch_plan(examples.paths, rows, size, seed, epoch, settings.group_pictures)
            for epoch in range(1, settings.epochs + 1)
        ]
        self.optimizer = torch.optim.AdamW(
            self.trainable, lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, factor(settings, sum(map(len, self.plans)))
        )
        self.dtype = dtype
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=dtype == torch.float16 and self.device.type == "cuda"
        )
        self.history = History()
        self.step = 0
        self.micro = settings.accumulate  # parts a batch is cut into; more after out-of-memory
        self.accelerator: Any = None
        self.loss_function = torch.compile(summed_loss) if settings.compile else summed_loss

    def state(self) -> dict[str, Any]:
        """Everything that the remaining steps depend on."""
        import torch

        return {
            "step": self.step,
            "history": vars(self.history),
            "trainable": [p.detach().cpu() for p in self.trainable],
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def restore(self, state: dict[str, Any]) -> None:
        import torch

        self.step = state["step"]
        self.history = History(**state["history"])
        for parameter, saved in zip(self.trainable, state["trainable"], strict=True):
            parameter.data.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])

    def train(
        self, validate: Callable[[], float], keep_best: Callable[[], None], log: Log
    ) -> History:
        """Go through the epochs that are left.

        Raises:
            Reclaimed: SIGTERM came; the state is saved.
            UserError: the loss isn't a number.
        """
        if saved := self.checkpoints.load():
            self.restore(saved)
        done = 0
        with until_reclaimed() as reclaimed:
            for epoch, plan in enumerate(self.plans, start=1):
                first = self.step - done
                done += len(plan)
                if len(self.history.epochs) >= epoch:
                    continue
                self.epoch(epoch, plan[max(first, 0) :], reclaimed, log)
                self.model.eval()
                accuracy = validate()
                self.history.epochs.append({"epoch": epoch, "validation_accuracy": accuracy})
                log({"validation_accuracy": accuracy}, self.step)
                if accuracy > self.history.best_accuracy:
                    self.history.best_accuracy, self.history.best_epoch = accuracy, epoch
                    keep_best()
                self.save()
        return self.history

    def epoch(
        self, epoch: int, plan: list[list[int]], reclaimed: Callable[[], bool], log: Log
    ) -> None:
        """The batches of an epoch that are left, saving every few minutes."""
        self.model.train()
        saved = time.monotonic()
        for batch in progress(plan, total=len(plan), desc=f"epoch {epoch}", unit="batch"):
            began = time.perf_counter()
            rate = float(self.scheduler.get_last_lr()[0])
            loss, norm = self.update(batch)
            self.step += 1
            self.history.steps.append({"step": self.step, "loss": loss, "lr": rate})
            seconds = time.perf_counter() - began
            log(
                {"loss": loss, "lr": rate, "gradient_norm": norm,
                 "samples_per_second": len(batch) / seconds},
                self.step,
            )  # fmt: skip
            if reclaimed():
                self.save()
                raise Reclaimed(f"stopped by SIGTERM at step {self.step}; run it again to go on.")
            if time.monotonic() - saved > 60 * self.settings.checkpoint_minutes:
                self.save()
                saved = time.monotonic()

    def save(self) -> None:
        if self.accelerator is None or self.accelerator.is_main_process:
            self.checkpoints.save(self.step, self.state())

    def update(self, batch: list[int]) -> tuple[float, float]:
        """One optimiser step; returns the batch's mean loss a token and the gradient's norm."""
        import torch

        while True:
            try:
                total = self.gradients(batch)
                break
            except torch.OutOfMemoryError:
                self.optimizer.zero_grad(set_to_none=True)
                if self.micro >= len(batch):
                    raise
                self.micro *= 2  # smaller parts, the same effective batch
                torch.cuda.empty_cache()
        if not math.isfinite(total):
            self.refuse(batch)
        self.scaler.unscale_(self.optimizer)
        limit = self.settings.max_grad_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.trainable, limit))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, norm

    def gradients(self, batch: list[int]) -> float:
        """Gradients of the batch's mean loss, whatever parts and processes share it."""
        import torch

        tokens = sum(len(self.examples.answers[i]) - 1 for i in batch)
        world = self.accelerator.num_processes if self.accelerator else 1
        cut = parts(batch, self.examples.paths, self.micro * world)
        mine = cut[self.accelerator.process_index :: world] if self.accelerator else cut
        total = torch.zeros((), device=self.device)
        half = self.dtype if self.dtype != torch.float32 else None
        for rows in mine:
            cast = torch.autocast(self.device.type, half) if half else nullcontext()
            with cast:
                loss = self.loss_function(self.blip, self.examples.batch(rows, self.device))
            torch.autograd.backward(self.scaler.scale(loss / tokens))
            total += loss.detach() / tokens
        if self.accelerator:
            for parameter in self.trainable:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad = self.accelerator.reduce(parameter.grad, "sum")
            total = self.accelerator.reduce(total, "sum")
        return float(total)

    def refuse(self, batch: list[int]) -> None:
        """Say which rows made the loss something that isn't a number."""
        where = write_json(batch, self.checkpoints.folder / f"not-a-number-{self.step}.json")
        raise UserError(
            f"the loss at step {self.step + 1} isn't a number. The batch's rows of the training "
            f"table are in {where}. Try a lower lora.lr, lora.max_grad_norm: 1.0, or bfloat16."
        )
