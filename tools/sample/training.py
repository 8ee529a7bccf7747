"""The training loop of all small checkpoints, and the attributes that they learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from abo_vqa.core.progress import progress
from sample.pretraining import FORMS, NUMBERS, VALUES, Pictures, truths

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sample.scene import Look

Labels = npt.NDArray[np.int64]

# CLIP's, which BLIP and LLaVA's processors share; ViLT uses 0.5.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    **VALUES,
    "count": NUMBERS[1:],
    "shape": FORMS,
}


def attribute_labels(looks: Sequence[Look]) -> Labels:
    """[n, 6] class of each attribute, -100 where a product has none."""
    rows = []
    for look in looks:
        facts = truths(look)
        rows.append(
            [values.index(facts[a]) if a in facts else -100 for a, values in ATTRIBUTES.items()]
        )
    return np.array(rows)


def pixels(
    images: Pictures, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> Tensor:
    """[n, 64, 64, 3] uint8 to normalised [n, 3, 64, 64] float32."""
    import torch

    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def batches(n: int, size: int, steps: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """`steps` batches of indices below n, by shuffled epochs."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    at = 0
    for _ in range(steps):
        if at + size > n:
            order, at = rng.permutation(n), 0
        yield order[at : at + size]
        at += size


def fit(
    name: str,
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[npt.NDArray[np.int64]], Tensor],
    *,
    n: int,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    matrices: Sequence[nn.Parameter] = (),
) -> float:
    """Train with 5% warm-up and a cosine to 2% of `lr`; return the last 50 steps' mean loss.

    `matrices` are trained by Muon, the other `parameters` by AdamW.
    """
    import torch

    from sample.muon import Muon

    apart = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in apart]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    ]
    if matrices:
        optimizers.append(Muon(matrices, lr=lr, weight_decay=0.02))

    def factor(step: int) -> float:
        warm = max(1, steps // 20)
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        return min(1.0, (step + 1) / warm) * decay

    schedules = [torch.optim.lr_scheduler.LambdaLR(o, factor) for o in optimizers]
    recent: list[float] = []
    for rows in progress(batches(n, batch, steps, seed), total=steps, desc=name, unit="step"):
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = loss_of(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        recent = [*recent[-49:], loss.item()]
    return sum(recent) / len(recent)
