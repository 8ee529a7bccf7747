"""A vision tower that encodes what the questions are about.

Supervised with every attribute of every picture at once, it learns in minutes what answers to
single questions would teach in hours. BLIP and BLIP-2 share the architecture (`BlipVisionModel`,
`Blip2VisionModel`), hence the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from sample.training import ATTRIBUTES, Labels, fit, pixels

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import BlipVisionModel

    from sample.pretraining import Pictures

    TokensOf = Callable[[Tensor, Tensor | None], Tensor]

WIDTH, LAYERS, HEADS, MLP = 128, 4, 4, 256
PATCHES = 64
LOCAL = 4  # colour, type, material, pattern: the attributes asked of single patches


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
    """Linear classifiers of every attribute.

    One reads the class token and the mean of the patches; one reads single patches, because what a
    thing is made of shows in each piece of it.
    """

    def __init__(self, width: int) -> None:
        import torch

        classes = sum(map(len, ATTRIBUTES.values()))
        self.whole = torch.nn.Linear(2 * width, classes)
        self.local = torch.nn.Linear(width, classes)

    def parameters(self) -> list[nn.Parameter]:
        """The weights to train."""
        return [*self.whole.parameters(), *self.local.parameters()]

    def loss(self, tokens: Tensor, labels: Tensor, busy: Tensor) -> Tensor:
        """Cross-entropies summed over attributes, half of them from patches.

        Args:
            tokens: [b, 1 + patches, width].
            labels: [b, attributes], -100 where there is none.
            busy: [b, patches], true for patches that show something.
        """
        import torch

        entropy = torch.nn.functional.cross_entropy
        total = sum(entropy(part, labels[:, k]) for k, part in enumerate(self.logits(tokens)))
        pieces = split(self.local(tokens[:, 1:][busy]))
        each = labels[:, None].expand(-1, busy.shape[1], -1)[busy]
        for k, part in enumerate(pieces[:LOCAL]):
            total = total + 0.5 * entropy(part, each[:, k])
        return cast("Tensor", total)

    def logits(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Each attribute's logits from a whole image's tokens."""
        import torch

        return split(self.whole(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=-1)))


def split(logits: Tensor) -> tuple[Tensor, ...]:
    """[..., classes] to one tensor an attribute."""
    import torch

    return torch.split(logits, [len(values) for values in ATTRIBUTES.values()], dim=-1)


def train_tower(
    name: str,
    tower: nn.Module,
    tokens_of: TokensOf,
    images: Pictures,
    labels: Labels,
    *,
    steps: int,
    seed: int,
    lr: float,
    batch: int = 32,
    keep: int = PATCHES,
) -> Readout:
    """Train a vision tower on attributes in place.

    For the first seven tenths it sees only the `keep` patches of each picture that vary most: half
    of a picture is white, and half the tokens cost half the time.
    """
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        readout = Readout(tokens_of(pixels(images[:1]), None).shape[-1])
    truth = torch.from_numpy(labels)
    rng = np.random.default_rng(seed)
    done = iter(range(steps))

    def loss(rows: npt.NDArray[np.int64]) -> Tensor:
        rows = np.sort(rows)
        x = moved(pixels(images[rows]), rng)
        variation = torch.nn.functional.unfold(x, 8, stride=8).std(1)  # [b, patches]
        chosen = None
        if keep < PATCHES and next(done) < 0.7 * steps:
            luck = torch.from_numpy(rng.random(tuple(variation.shape), dtype=np.float32))
            chosen = (variation + 0.05 * luck).topk(keep, dim=1).indices
            variation = variation.gather(1, chosen)
        return readout.loss(tokens_of(x, chosen), truth[rows], variation > 0.25)

    parameters = [*tower.parameters(), *readout.parameters()]
    matrices = [p for n, p in tower.named_parameters() if ".layers." in n and p.ndim == 2]
    fit(
        name,
        parameters,
        loss,
        n=len(labels),
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        matrices=matrices,
    )
    return readout


def moved(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirrored and rolled by up to three pixels: what changes no attribute."""
    if rng.random() < 0.5:
        x = x.flip(-1)
    dx, dy = rng.integers(-3, 4, size=2)
    return x.roll((int(dy), int(dx)), dims=(-2, -1))


def accuracy(
    readout: Readout, tokens_of: TokensOf, images: Pictures, labels: Labels
) -> dict[str, float]:
    """Share of right attributes on held-out pictures."""
    import torch

    with torch.no_grad():
        parts: list[list[Tensor]] = [[] for _ in ATTRIBUTES]
        for start in range(0, len(labels), 250):
            for k, part in enumerate(
                readout.logits(tokens_of(pixels(images[start : start + 250]), None))
            ):
                parts[k].append(part.argmax(-1))
    predicted = np.stack([torch.cat(p).numpy() for p in parts], axis=1)
    known = labels >= 0
    return {
        name: round(float((predicted == labels)[known[:, k], k].mean()), 3)
        for k, name in enumerate(ATTRIBUTES)
    }


def blip_tower(seed: int) -> BlipVisionModel:
    """An untrained tower."""
    import torch
    from transformers import BlipVisionConfig, BlipVisionModel

    torch.manual_seed(seed)
    return BlipVisionModel(BlipVisionConfig(**vision_settings()))


def last_hidden(tower: BlipVisionModel) -> TokensOf:
    """Pixels [b, 3, 64, 64] to tokens [b, 65, width], or only to those of the chosen patches."""
    import torch

    def tokens(x: Tensor, chosen: Tensor | None = None) -> Tensor:
        state = tower.embeddings(x)  # [b, 1 + patches, width]
        if chosen is not None:
            index = chosen[..., None].expand(-1, -1, state.shape[-1])
            state = torch.cat([state[:, :1], state[:, 1:].gather(1, index)], dim=1)
        state = tower.encoder(inputs_embeds=state).last_hidden_state
        return cast("Tensor", tower.post_layernorm(state))

    return tokens


def features(tokens_of: TokensOf, images: Pictures) -> npt.NDArray[np.float16]:
    """Tokens of every picture, [n, 65, width]: frozen from here on, so computed once."""
    import torch

    with torch.no_grad():
        parts = [
            tokens_of(pixels(images[s : s + 250]), None).half().numpy()
            for s in range(0, len(images), 250)
        ]
    return np.concatenate(parts)
