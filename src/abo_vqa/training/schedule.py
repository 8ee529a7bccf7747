"""The learning rate schedule, from torch's schedulers.

Not from `transformers.get_scheduler`: its warm-up starts at a rate of 0, so that the first batch
trains nothing. Without warm-up (the default) the two are equal up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from abo_vqa.core.config import FinetuneConfig


def make_scheduler(optimizer: Optimizer, settings: FinetuneConfig, steps: int) -> LRScheduler:
    """Return a scheduler: linear warm-up to the full rate, then linear, cosine or constant.

    Args:
        optimizer: the optimizer, with the full rate.
        settings: `schedule`, and `warmup` as a share of all steps.
        steps: number of optimizer steps.
    """
    warmup = int(settings.warmup * steps)
    decay = max(1, steps - warmup)
    main: LRScheduler
    if settings.schedule == "linear":
        main = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=decay)
    elif settings.schedule == "cosine":
        main = CosineAnnealingLR(optimizer, T_max=decay)
    else:
        main = ConstantLR(optimizer, factor=1.0, total_iters=0)
    if warmup == 0:
        return main
    # 1/n, 2/n, …, 1: the n-th step is the first one at the full rate.
    rise = LinearLR(optimizer, start_factor=1 / warmup, total_iters=max(1, warmup - 1))
    return SequentialLR(optimizer, [rise, main], milestones=[warmup])
