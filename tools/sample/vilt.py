"""The small ViLT (`ViltForQuestionAnswering`): one transformer over words and patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sample.blip import by_length
from sample.pretraining import Pictures
from sample.training import fit, pixels
from sample.trunk import HEADS, LAYERS, MLP, WIDTH
from sample.vocabulary import encoded

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import BertTokenizer, ViltForQuestionAnswering

    from sample.pretraining import Pair

MAX_TEXT = 40
HALF = (0.5, 0.5, 0.5)  # ViLT's mean and deviation


def vilt(tokenizer: BertTokenizer, answers: Sequence[str], seed: int) -> ViltForQuestionAnswering:
    """An untrained ViLT whose labels are `answers`."""
    import torch
    from transformers import ViltConfig, ViltForQuestionAnswering

    torch.manual_seed(seed)
    return ViltForQuestionAnswering(
        ViltConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=MLP,
            max_position_embeddings=MAX_TEXT,
            layer_norm_eps=1e-5,
            image_size=64,
            patch_size=8,
            max_image_length=-1,
            pad_token_id=tokenizer.pad_token_id,
            id2label=dict(enumerate(answers)),
            label2id={answer: k for k, answer in enumerate(answers)},
        )
    )


def adopt(model: ViltForQuestionAnswering, tower: nn.Module) -> None:
    """Start patches and layers from a trained `BlipVisionModel`; words join in training."""
    import torch

    source = {name: p.detach() for name, p in tower.named_parameters()}
    target = dict(model.vilt.named_parameters())
    patches = "embeddings.patch_embeddings.projection."
    with torch.no_grad():
        target["embeddings.cls_token"].copy_(source["embeddings.class_embedding"])
        target["embeddings.position_embeddings"].copy_(source["embeddings.position_embedding"])
        # The tower's pixels were normalised by CLIP's constants, ViLT's are by a half.
        weight, bias = renormalised(
            source["embeddings.patch_embedding.weight"], source["embeddings.patch_embedding.bias"]
        )
        target[f"{patches}weight"].copy_(weight)
        target[f"{patches}bias"].copy_(bias)
        for kind in ("weight", "bias"):
            target[f"layernorm.{kind}"].copy_(source[f"post_layernorm.{kind}"])
            for k in range(LAYERS):
                ours, theirs = f"encoder.layers.{k}.", f"encoder.layer.{k}."
                fused = source[f"{ours}self_attn.qkv.{kind}"].chunk(3)
                for part, value in zip(("query", "key", "value"), fused, strict=True):
                    target[f"{theirs}attention.attention.{part}.{kind}"].copy_(value)
                pairs = {
                    "self_attn.projection": "attention.output.dense",
                    "layer_norm1": "layernorm_before",
                    "layer_norm2": "layernorm_after",
                    "mlp.fc1": "intermediate.dense",
                    "mlp.fc2": "output.dense",
                }
                for a, b in pairs.items():
                    target[f"{theirs}{b}.{kind}"].copy_(source[f"{ours}{a}.{kind}"])


def renormalised(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The same linear map of a patch [out, 3, p, p] for pixels (x - 0.5) / 0.5."""
    import torch

    from sample.training import MEAN, STD

    mean, std = (torch.tensor(v)[None, :, None, None] for v in (MEAN, STD))
    moved = bias + (weight * (0.5 - mean) / std).sum((1, 2, 3))
    return weight * 0.5 / std, moved


def train(
    model: ViltForQuestionAnswering,
    tokenizer: BertTokenizer,
    images: Pictures,
    pairs: Sequence[Pair],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """Train everything on pictures and questions; pixels are not cached, words change them."""
    import torch

    labels = model.config.label2id
    questions = encoded(tokenizer, [pair.question for pair in pairs])
    where = np.array([pair.picture for pair in pairs])
    truth = torch.tensor([labels[pair.answer] for pair in pairs])
    at = iter(by_length(np.array([len(q) for q in questions]), batch, steps, seed))

    def loss(_: npt.NDArray[np.int64]) -> Tensor:
        rows = next(at)
        out = model(
            input_ids=torch.tensor([questions[r] for r in rows]),
            image_embeds=embed(model, pixels(images[where[rows]], HALF, HALF)),
            pixel_mask=torch.ones(len(rows), 65),
        )
        return torch.nn.functional.cross_entropy(out.logits, truth[rows])

    parameters = list(model.parameters())
    return fit("vilt", parameters, loss, n=batch, steps=steps, batch=batch, lr=lr, seed=seed)


def embed(model: ViltForQuestionAnswering, x: Tensor) -> Tensor:
    """Class token and patches [b, 65, width] in reading order.

    The model's own embedding samples and shuffles patches one picture at a time; a sum with
    positions is all that is needed when every picture has the same size.
    """
    import torch

    own = model.vilt.embeddings
    patches = own.patch_embeddings(x).flatten(2).transpose(1, 2)
    first = own.cls_token.expand(len(x), -1, -1)
    whole: Tensor = torch.cat([first, patches], dim=1) + own.position_embeddings
    return whole


def save_vilt(model: ViltForQuestionAnswering, tokenizer: BertTokenizer, folder: Path) -> None:
    """fp16 weights, processor and tokenizer, as `from_pretrained` reads them."""
    from transformers import ViltImageProcessor, ViltProcessor

    model.half().save_pretrained(folder)
    images = ViltImageProcessor(
        size={"shortest_edge": 64}, size_divisor=8, image_mean=list(HALF), image_std=list(HALF)
    )
    ViltProcessor(images, tokenizer).save_pretrained(folder)
