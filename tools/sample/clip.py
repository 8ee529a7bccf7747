"""The small CLIP, an open_clip model by custom configuration.

Its image tower is the shared vision tower (open_clip can leave out the first LayerNorm), its text
tower a two-layer causal transformer. The contrast is between images and sentences about them:
plain captions, and the pipeline's "Question: … Answer: …" with a wrong answer as a hard negative.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sample.pretraining import ask, caption
from sample.training import MEAN, STD, fit
from sample.trunk import HEADS, LAYERS, MLP, WIDTH
from sample.vocabulary import clip_tokenizer

if TYPE_CHECKING:
    from open_clip import CLIP
    from torch import Tensor, nn

    from sample.scene import Look

CONTEXT = 40
EMBEDDING = 96
TEMPLATE = "Question: {} Answer: {}"


def settings(vocabulary: int) -> dict[str, Any]:
    """open_clip's model configuration."""
    return {
        "embed_dim": EMBEDDING,
        "vision_cfg": {
            "image_size": 64,
            "layers": LAYERS,
            "width": WIDTH,
            "head_width": WIDTH // HEADS,
            "mlp_ratio": MLP / WIDTH,
            "patch_size": 8,
            "no_ln_pre": True,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "local",  # read from the model's own folder
            "width": 96,
            "heads": 4,
            "layers": 2,
            "mlp_ratio": 2.0,
        },
    }


def adopt(model: CLIP, tower: nn.Module) -> None:
    """Copy a trained `BlipVisionModel`, exactly: the patches' bias goes into the positions."""
    import torch

    source = {name: p.detach() for name, p in tower.named_parameters()}
    target = dict(model.visual.named_parameters())
    with torch.no_grad():
        positions = source["embeddings.position_embedding"][0].clone()
        positions[1:] += source["embeddings.patch_embedding.bias"]
        target["positional_embedding"].copy_(positions)
        target["class_embedding"].copy_(source["embeddings.class_embedding"].flatten())
        target["conv1.weight"].copy_(source["embeddings.patch_embedding.weight"])
        for kind in ("weight", "bias"):
            target[f"ln_post.{kind}"].copy_(source[f"post_layernorm.{kind}"])
            for k in range(LAYERS):
                ours, theirs = f"encoder.layers.{k}.", f"transformer.resblocks.{k}."
                pairs = {
                    "layer_norm1": "ln_1",
                    "layer_norm2": "ln_2",
                    "mlp.fc1": "mlp.c_fc",
                    "mlp.fc2": "mlp.c_proj",
                    "self_attn.projection": "attn.out_proj",
                }
                for a, b in pairs.items():
                    target[f"{theirs}{b}.{kind}"].copy_(source[f"{ours}{a}.{kind}"])
                target[f"{theirs}attn.in_proj_{kind}"].copy_(source[f"{ours}self_attn.qkv.{kind}"])


def sentences(looks: Sequence[Look], seed: int) -> list[tuple[str, str, str]]:
    """For each picture a caption, a right and a wrong "Question: … Answer: …"."""
    r = random.Random(seed)
    answers: dict[str, set[str]] = {}
    pairs = [r.choice(ask(k, look, r)) for k, look in enumerate(looks)]
    for pair in pairs:
        answers.setdefault(pair.kind, set()).add(pair.answer)
    rows = []
    for look, pair in zip(looks, pairs, strict=True):
        others = sorted(answers[pair.kind] - {pair.answer}) or ["none"]
        right = TEMPLATE.format(pair.question, pair.answer)
        wrong = TEMPLATE.format(pair.question, r.choice(others))
        rows.append((caption(look, r), right, wrong))
    return rows


def train(
    model: CLIP,
    tokens: npt.NDArray[np.float16],
    looks: Sequence[Look],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """Train projections and text tower on the frozen tower's class tokens, [n, width]."""
    import torch

    tokenizer = clip_tokenizer(CONTEXT)
    epochs = 4  # each picture is asked about several times
    texts = [sentences(looks, seed + k) for k in range(epochs)]
    ids = [
        [
            torch.tensor(tokenizer(list(column), padding="longest").input_ids)
            for column in zip(*rows, strict=True)
        ]
        for rows in texts
    ]
    classes = torch.from_numpy(tokens).float()
    rng = np.random.default_rng(seed)

    def loss(rows: npt.NDArray[np.int64]) -> Tensor:
        image = torch.nn.functional.normalize(classes[rows] @ model.visual.proj, dim=-1)
        captions, right, wrong = (column[rows] for column in ids[rng.integers(epochs)])
        scale = model.logit_scale.exp().clamp(max=100)
        plain = scale * image @ encode(model, captions).T
        goal = torch.arange(len(rows))
        contrast = torch.nn.functional.cross_entropy(plain, goal)
        contrast = (contrast + torch.nn.functional.cross_entropy(plain.T, goal)) / 2
        true, false = ((image * encode(model, text)).sum(-1) * scale for text in (right, wrong))
        return contrast + torch.nn.functional.softplus(false - true).mean()

    still = {id(p) for n, p in model.visual.named_parameters() if n != "proj"}
    parameters = [p for p in model.parameters() if id(p) not in still]
    return fit("clip", parameters, loss, n=len(looks), steps=steps, batch=batch, lr=lr, seed=seed)


def encode(model: CLIP, ids: Tensor) -> Tensor:
    """Unit text features of ids [b, t]; padding after the end isn't read (causal), so cut."""
    import torch

    ids = ids[:, : int((ids != 0).sum(1).max())]
    length = ids.shape[1]
    x = model.token_embedding(ids) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)]
    return torch.nn.functional.normalize(x @ model.text_projection, dim=-1)


def clip(seed: int) -> CLIP:
    """An untrained CLIP."""
    import open_clip
    import torch

    torch.manual_seed(seed)
    return open_clip.CLIP(**settings(len(clip_tokenizer(CONTEXT))))


def save_clip(model: CLIP, folder: Path) -> None:
    """fp16 weights, configuration and tokenizer: what open_clip's "local-dir:" loads."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = clip_tokenizer(CONTEXT)
    config = {
        "model_cfg": settings(len(tokenizer)),
        "preprocess_cfg": {
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {k: v.half().contiguous() for k, v in model.state_dict().items() if k != "attn_mask"}
    save_file(weights, folder / "open_clip_model.safetensors")
    tokenizer.save_pretrained(folder)
