"""CLIP's two towers under open_clip's names, from torch alone, and the same in transformers.

`abo_vqa.models.clip.model` works on open_clip's model, which a machine with a GPU may lack. These
have its structure (`tests/project/test_gpu_benchmark.py` loads their weights into open_clip's own
model and compares), so that ours runs on them; the plain library call is transformers' `CLIPModel`.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize as unit

MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's pixels
SPREAD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Sizes:
    """As open_clip's configuration has them."""

    features: int = 512
    side: int = 224
    patch: int = 32
    vision: tuple[int, int, int] = (768, 12, 12)  # width, layers, heads
    text: tuple[int, int, int] = (512, 12, 8)
    context: int = 77
    vocabulary: int = 49408


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1, self.ls_2 = nn.Identity(), nn.Identity()
        parts = {"c_fc": nn.Linear(width, 4 * width), "gelu": QuickGELU(),
                 "c_proj": nn.Linear(4 * width, width)}  # fmt: skip
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        normed = self.ln_1(x)
        mixed = self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)[0]
        x = x + self.ls_1(mixed)
        return x + self.ls_2(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, attn_mask)
        return x


class Vision(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.vision[0]
        patches = (sizes.side // sizes.patch) ** 2
        self.conv1 = nn.Conv2d(3, width, sizes.patch, sizes.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(patches + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(*sizes.vision)
        self.proj = nn.Parameter(torch.empty(width, sizes.features))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)  # [P, patches, W]
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        out: Tensor = self.ln_post(self.transformer(x)[:, 0]) @ self.proj
        return out


class Towers(nn.Module):
    """What `Clip` and `TextTower` ask of open_clip's CLIP."""

    text_pool_type, text_eos_id = "argmax", None
    attn_mask: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.text[0]
        self.sizes, self.context_length = sizes, sizes.context
        self.visual = Vision(sizes)
        self.transformer = Transformer(*sizes.text)
        self.token_embedding = nn.Embedding(sizes.vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.context, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, sizes.features))
        self.logit_scale = nn.Parameter(torch.empty(()))
        mask = torch.full((sizes.context, sizes.context), float("-inf")).triu(1)
        self.register_buffer("attn_mask", mask, persistent=False)

    def encode_image(self, pixels: Tensor, normalize: bool = False) -> Tensor:
        features: Tensor = self.visual(pixels)
        return unit(features, dim=-1) if normalize else features

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x, self.attn_mask))
        x = x[torch.arange(len(x), device=x.device), tokens.argmax(-1)] @ self.text_projection
        return unit(x, dim=-1) if normalize else x


class Words:
    """A tokenizer called as open_clip's is, a token a word; the end token has the highest id."""

    def __init__(self, words: Sequence[str], sizes: Sizes) -> None:
        self.ids = {word: at + 1 for at, word in enumerate(words)}
        self.start, self.end = sizes.vocabulary - 2, sizes.vocabulary - 1
        self.context = sizes.context

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        length = context_length or self.context
        rows = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [self.ids[word] for word in re.findall(r"\w+|[^\w\s]", text.lower())]
            ids = [self.start, *ids[: length - 2], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows


def preprocess(side: int) -> Any:
    """A picture as CLIP's vision tower takes it: [3, side, side]."""

    def prepare(picture: Image.Image) -> Tensor:
        scale = side / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
        pixels = (np.asarray(picture, dtype=np.float32) / 255 - MEAN) / SPREAD
        return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)

    return prepare


def library(towers: Towers) -> Any:
    """transformers' `CLIPModel` with the weights of `towers`, which it shares where it can."""
    from helpers.random_weights import empty
    from transformers import CLIPConfig, CLIPModel

    sizes = towers.sizes
    parts = {}
    for name, (width, layers, count) in (("text", sizes.text), ("vision", sizes.vision)):
        parts[name] = {"hidden_size": width, "num_hidden_layers": layers,
                       "num_attention_heads": count, "intermediate_size": 4 * width,
                       "hidden_act": "quick_gelu", "projection_dim": sizes.features}  # fmt: skip
    parts["text"] |= {"vocab_size": sizes.vocabulary, "max_position_embeddings": sizes.context,
                      "bos_token_id": sizes.vocabulary - 2, "eos_token_id": sizes.vocabulary - 1,
                      "pad_token_id": 0}  # fmt: skip
    parts["vision"] |= {"image_size": sizes.side, "patch_size": sizes.patch}
    config = CLIPConfig(text_config=parts["text"], vision_config=parts["vision"],
                        projection_dim=sizes.features)  # fmt: skip
    model = empty(lambda: CLIPModel(config))
    model.load_state_dict(renamed(towers), assign=True)
    device = towers.positional_embedding.device
    for module in model.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    return model.eval().requires_grad_(False)


def renamed(towers: Towers) -> dict[str, Tensor]:
    """The weights under transformers' names."""
    text, vision = "text_model.", "vision_model."
    visual = towers.visual
    tensors = {
        "logit_scale": towers.logit_scale,
        "text_projection.weight": towers.text_projection.T.contiguous(),
        "visual_projection.weight": visual.proj.T.contiguous(),
        text + "embeddings.token_embedding.weight": towers.token_embedding.weight,
        text + "embeddings.position_embedding.weight": towers.positional_embedding,
        vision + "embeddings.class_embedding": visual.class_embedding,
        vision + "embeddings.patch_embedding.weight": visual.conv1.weight,
        vision + "embeddings.position_embedding.weight": visual.positional_embedding,
    }
    norms = {text + "final_layer_norm": towers.ln_final, vision + "pre_layrnorm": visual.ln_pre,
             vision + "post_layernorm": visual.ln_post}  # fmt: skip
    for name, norm in norms.items():
        tensors |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    for tower, stack in ((text, towers.transformer), (vision, visual.transformer)):
        for at, block in enumerate(stack.resblocks):
            tensors |= layer(f"{tower}encoder.layers.{at}.", block)
    return {name: weight.detach() for name, weight in tensors.items()}


def layer(name: str, block: Any) -> dict[str, Tensor]:
    """One block's weights under transformers' names."""
    modules = {"layer_norm1": block.ln_1, "layer_norm2": block.ln_2, "mlp.fc1": block.mlp.c_fc,
               "mlp.fc2": block.mlp.c_proj, "self_attn.out_proj": block.attn.out_proj}  # fmt: skip
    tensors = {}
    for part, module in modules.items():
        tensors |= {f"{name}{part}.weight": module.weight, f"{name}{part}.bias": module.bias}
    weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
    for part, weight, bias in zip("qkv", weights, biases, strict=True):
        tensors[f"{name}self_attn.{part}_proj.weight"] = weight
        tensors[f"{name}self_attn.{part}_proj.bias"] = bias
    return tensors
