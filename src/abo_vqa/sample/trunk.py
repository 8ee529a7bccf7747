"""A vision tower that sees what the questions are about.

Supervised with every attribute of every picture at once, it learns in minutes what answers to
single questions would teach in hours. BLIP and BLIP-2 share the architecture (`BlipVisionModel`,
`Blip2VisionModel`), hence the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from abo_vqa.sample.training import ATTRIBUTES, Labels, fit, pixels

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import BlipVisionModel

    from abo_vqa.sample.pretraining import Pictures

WIDTH, LAYERS, HEADS, MLP = 128, 4, 4, 256


def vision_settings() -> dict[str, float | int]:
    """Shared by BLIP's and BLIP-2's vision configurations."""
    return {
        "hidden_size": WIDTH,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": 64,
        "patch_size": 8,
        "layer_norm_eps": 1e-5,
        # BLIP's default of 1e-10 would leave an untrained tower blind.
        "initializer_range": 0.02,
    }


class Readout:
    """One linear classifier an attribute, on the class token and the mean of the patches."""

    def __init__(self, width: int) -> None:
        import torch

        self.layer = torch.nn.Linear(2 * width, sum(map(len, ATTRIBUTES.values())))

    def loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Sum of cross-entropies; tokens [b, 1 + patches, width], labels [b, attributes]."""
        import torch

        parts = self.logits(tokens)
        losses = [
            torch.nn.functional.cross_entropy(part, labels[:, k]) for k, part in enumerate(parts)
        ]
        return torch.stack(losses).sum()

    def logits(self, tokens: Tensor) -> tuple[Tensor, ...]:
        import torch

        pooled = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=-1)
        return torch.split(self.layer(pooled), [len(v) for v in ATTRIBUTES.values()], dim=-1)


def train_tower(
    name: str,
    tower: nn.Module,
    tokens_of: Callable[[Tensor], Tensor],
    images: Pictures,
    labels: Labels,
    *,
    steps: int,
    seed: int,
    lr: float = 1e-3,
) -> Readout:
    """Train a vision tower on attributes in place."""
    import torch

    width = tokens_of(pixels(images[:1])).shape[-1]
    readout = Readout(width)
    truth = torch.from_numpy(labels)
    rng = np.random.default_rng(seed)

    def loss(rows: npt.NDArray[np.int64]) -> Tensor:
        rows = np.sort(rows)
        x = moved(pixels(images[rows]), rng)
        return readout.loss(tokens_of(x), truth[rows])

    parameters = [*tower.parameters(), *readout.layer.parameters()]
    fit(name, parameters, loss, n=len(labels), steps=steps, batch=64, lr=lr, seed=seed)
    return readout


def moved(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirrored and rolled by up to three pixels: what changes no attribute."""
    if rng.random() < 0.5:
        x = x.flip(-1)
    dx, dy = rng.integers(-3, 4, size=2)
    return x.roll((int(dy), int(dx)), dims=(-2, -1))


def accuracy(
    readout: Readout, tokens_of: Callable[[Tensor], Tensor], images: Pictures, labels: Labels
) -> dict[str, float]:
    """Share of right attributes on held-out pictures."""
    import torch

    with torch.no_grad():
        parts: list[list[Tensor]] = [[] for _ in ATTRIBUTES]
        for start in range(0, len(labels), 250):
            for k, part in enumerate(
                readout.logits(tokens_of(pixels(images[start : start + 250])))
            ):
                parts[k].append(part.argmax(-1))
    found = np.stack([torch.cat(p).numpy() for p in parts], axis=1)
    known = labels >= 0
    return {
        name: round(float((found == labels)[known[:, k], k].mean()), 3)
        for k, name in enumerate(ATTRIBUTES)
    }


def blip_tower(seed: int) -> BlipVisionModel:
    """An untrained tower."""
    import torch
    from transformers import BlipVisionConfig, BlipVisionModel

    torch.manual_seed(seed)
    return BlipVisionModel(BlipVisionConfig(**vision_settings()))


def last_hidden(tower: nn.Module) -> Callable[[Tensor], Tensor]:
    """Pixels [b, 3, 64, 64] to tokens [b, 65, width]."""

    def tokens(x: Tensor) -> Tensor:
        hidden: Tensor = tower(pixel_values=x).last_hidden_state
        return hidden

    return tokens


def features(tokens_of: Callable[[Tensor], Tensor], images: Pictures) -> npt.NDArray[np.float16]:
    """Tokens of every picture, [n, 65, width]: frozen from here on, so computed once."""
    import torch

    out: Sequence[npt.NDArray[np.float16]] = []
    with torch.no_grad():
        out = [
            tokens_of(pixels(images[s : s + 250])).half().numpy()
            for s in range(0, len(images), 250)
        ]
    return np.concatenate(out)
