"""The check of training: one step of LoRA on `lora.model`, by the stage `finetune`'s own loop."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.commands.doctor.bounds import bound, difference
from abo_vqa.commands.doctor.findings import Checkout, Finding, ok, problem
from abo_vqa.commands.doctor.gpu import usable
from abo_vqa.commands.doctor.reference import on_cpu, skip_reason
from abo_vqa.commands.doctor.sample_image import sample_image
from abo_vqa.commands.doctor.weights import require
from abo_vqa.core.errors import UserError
from abo_vqa.core.units import GB
from abo_vqa.training.registry import trained_checkpoint

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from abo_vqa.core.config import Config
    from abo_vqa.training.loop import Trainer

NAME = "training step"
ROWS = (("What color is it?", "red"), ("How many are there?", "two"), ("Is it round?", "no"))
_NOISE = 0.02  # on what is trained: LoRA starts with zeros, behind which gradients are zero too
_HALVINGS = 20  # of the scaler at most, which meets infinite gradients by design


@dataclass(frozen=True)
class Step:
    """A training step.

    Attributes:
        loss: mean cross-entropy per token.
        gradients: of all trained parameters.
        start: the trained parameters before the step.
        finite: whether all of them are finite after it.
        dtype: what the arithmetic is done in.
        parameters: how many the model has.
        seconds: how long the step took.
        peak: bytes of memory.
    """

    loss: float
    gradients: list[torch.Tensor]
    start: list[torch.Tensor]
    finite: bool
    dtype: str
    parameters: int
    seconds: float
    peak: int


def check_step(case: Checkout) -> Iterator[Finding]:
    """Train one step on the device; on a GPU, compare loss and gradients with the CPU's.

    Args:
        case: the checkout.
    """
    config = case.settings
    checkpoint = trained_checkpoint(config)
    require(checkpoint, case)
    device = usable(config)
    _, image = sample_image(case)
    step = _take_step(config, image)
    numbers = {"loss": step.loss, "seconds": step.seconds, "peak_bytes": float(step.peak)}
    message = (
        f"loss {step.loss:.4f}, {sum(g.numel() for g in step.gradients):,} gradients; "
        f"{step.dtype} on {device}, {step.seconds:.2f} s, peak {step.peak / GB:.2f} GB"
    )
    if not step.finite:
        advice = "Try compute.dtype: float32; if that fails too, please report it."
        yield problem(NAME, f"{message}; not all of it is a finite number", advice, numbers)
    elif device.type == "cpu":
        yield ok(NAME, message, numbers)
    elif reason := skip_reason(checkpoint, step.parameters):
        yield ok(NAME, f"{message}; not compared with the CPU: {reason}", numbers)
    else:
        yield _compared(
            message, step, _take_step(on_cpu(config.lora.model, config), image, step.start), numbers
        )


def _take_step(config: Config, image: Image, start: Sequence[torch.Tensor] | None = None) -> Step:
    """Train one step on an image's few questions, without dropout.

    Args:
        config: the settings.
        image: the image.
        start: the trained parameters; None for their first values and some noise.

    Raises:
        UserError: There isn't enough memory.
    """
    import torch

    from abo_vqa.core.memory import peak_memory, release_memory

    release_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        trainer = _prepare(config, image, Path(folder))
        drawn = torch.Generator().manual_seed(config.seed)
        first = [p.detach().to("cpu", torch.float32) for p in trainer.state.trainable]
        start = start or [p + _NOISE * torch.randn(p.shape, generator=drawn) for p in first]
        trainer.state.set_parameters(start)
        began = time.perf_counter()
        loss, gradients = _backward(trainer)
        trainer.state.scaler.step(trainer.state.optimizer)
        after = [p.detach().to("cpu", torch.float32) for p in trainer.state.trainable]
        seconds = time.perf_counter() - began
        numbers = [torch.tensor(loss), *gradients, *after]
        step = Step(
            loss,
            gradients,
            list(start),
            all(bool(value.isfinite().all()) for value in numbers),
            str(trainer.step.dtype).removeprefix("torch."),
            sum(p.numel() for p in trainer.model.parameters()),
            seconds,
            peak_memory(trainer.device),
        )
        del trainer
    release_memory()
    return step


def _prepare(config: Config, image: Image, folder: Path) -> Trainer:
    """Return the stage's trainer, for one batch of `ROWS` about an image."""
    import pandas as pd
    import torch

    from abo_vqa.core.devices import pick_dtype
    from abo_vqa.training.checkpoints import CheckpointManager
    from abo_vqa.training.dataset import VqaDataset
    from abo_vqa.training.loop import Trainer
    from abo_vqa.training.lora import add_lora, trains_vision
    from abo_vqa.training.run import load_for_training

    family = load_for_training(config)
    lora = {"dropout": 0.0, "compile": False, "batch_size": len(ROWS), "accumulate": 1}
    settings = config.lora.model_copy(update=lora)
    torch.manual_seed(config.seed)
    model, layers = add_lora(family, settings)
    path = "image"
    table = pd.DataFrame(
        [(path, question, answer) for question, answer in ROWS],
        columns=["image_path", "question", "answer"],
    )
    vqa = family.vqa
    images = vqa.preprocess([image])
    if not trains_vision(layers, vqa.vision_modules):
        split = [vqa.split_encoded(encoded) for encoded in vqa.encode(images)]
        # Copies, because gradients can't pass tensors of inference mode.
        matrices, texts = [matrix.clone() for matrix, _ in split], [text for _, text in split]
        images = vqa.join_encoded(matrices, texts)
    dataset = VqaDataset(table, family, _OneImage(images))
    dtype = pick_dtype(vqa.checkpoint, config.compute, vqa.device)
    rows = range(len(ROWS))
    return Trainer(model, dataset, rows, settings, config.seed, CheckpointManager(folder, 1), dtype)


class _OneImage:
    """The only image's values, wherever they are."""

    resident = True

    def __init__(self, values: Any) -> None:
        self._values = values

    def get(self, paths: Sequence[str]) -> Any:
        """Return them."""
        del paths
        return self._values

    def token_counts(self, paths: Sequence[str]) -> list[int]:
        """Return zeros: the only image's questions needn't be sorted by it."""
        return [0] * len(paths)


def _backward(trainer: Trainer) -> tuple[float, list[torch.Tensor]]:
    """Return the batch's loss and its gradients as the optimiser gets them, on the CPU.

    Raises:
        UserError: There isn't enough memory.
    """
    import torch

    batch = list(range(len(ROWS)))
    for _ in range(_HALVINGS):
        loss, full = trainer.step.backward(batch, trainer.loader.load(batch))
        if full:
            raise UserError(
                "out of memory with three questions about one image. Close what else uses the "
                "device, or use a smaller lora.r."
            )
        trainer.state.scaler.unscale_(trainer.state.optimizer)
        gradients = [
            torch.zeros(p.shape) if p.grad is None else p.grad.detach().to("cpu", torch.float32)
            for p in trainer.state.trainable
        ]
        if not trainer.state.scaler.is_enabled() or all(
            bool(g.isfinite().all()) for g in gradients
        ):
            break
        trainer.state.scaler.step(trainer.state.optimizer)  # skips the step
        trainer.state.scaler.update()
        trainer.state.optimizer.zero_grad(set_to_none=True)
    return loss, gradients


def _compared(message: str, step: Step, reference: Step, numbers: dict[str, float]) -> Finding:
    """Compare the device's step with the CPU's in float32."""
    limit = bound(step.dtype).gradients
    loss = abs(step.loss - reference.loss) / reference.loss
    gradients = difference(step.gradients, reference.gradients)
    message = (
        f"{message}; CPU {reference.loss:.4f}, difference of the loss {loss:.1e}, largest of a "
        f"gradient {gradients:.1e} (at most {limit:.0e} of the largest)"
    )
    numbers = {**numbers, "loss_difference": loss, "gradient_difference": gradients}
    if max(loss, gradients) <= limit and gradients == gradients:
        return ok(NAME, message, numbers)
    advice = (
        f"Don't train on this device with {step.dtype} yet: try compute.dtype: float32; if that "
        "differs too, another driver or build of torch. Please report it."
    )
    return problem(NAME, message, advice, numbers)
