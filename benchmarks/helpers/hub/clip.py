"""timm/vit_base_patch32_clip_224.openai: OpenAI's ViT-B/32 under open_clip's names."""

from __future__ import annotations

from typing import Any

from helpers.hub.layout import Repository
from helpers.hub.tensors import Tensor, convolution, linear, norm, table
from helpers.hub.vocabularies import CLIP_MEAN, CLIP_STD

WORDS, LONGEST = 49_408, 77  # of open_clip's own tokenizer
REAL: dict[str, Any] = {
    "embed_dim": 512,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    "text_cfg": {
        "context_length": LONGEST,
        "vocab_size": WORDS,
        "width": 512,
        "heads": 8,
        "layers": 12,
    },
}
SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {**REAL["text_cfg"], "width": 32, "heads": 2, "layers": 2},
}


def repository(real: bool) -> Repository:
    sizes = REAL if real else SMALL
    files = {
        "open_clip_config.json": {
            "model_cfg": sizes,
            "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD},
        }
    }
    return Repository(files, tensors(sizes), weights="open_clip_model.safetensors")


def tensors(sizes: dict[str, Any]) -> list[Tensor]:
    vision, text, features = sizes["vision_cfg"], sizes["text_cfg"], sizes["embed_dim"]
    width, side = vision["width"], vision["patch_size"]
    patches = (vision["image_size"] // side) ** 2
    return [
        Tensor("logit_scale", (), "scale"),
        Tensor("positional_embedding", (LONGEST, text["width"])),
        Tensor("text_projection", (text["width"], features)),
        Tensor("visual.class_embedding", (width,), "vector"),
        Tensor("visual.positional_embedding", (patches + 1, width)),
        Tensor("visual.proj", (width, features)),
        *convolution("visual.conv1", width, side, bias=False),
        *norm("visual.ln_pre", width),
        *blocks("visual.transformer", width, vision["layers"]),
        *norm("visual.ln_post", width),
        *blocks("transformer", text["width"], text["layers"]),
        *table("token_embedding", WORDS, text["width"]),
        *norm("ln_final", text["width"]),
    ]


def blocks(name: str, width: int, layers: int) -> list[Tensor]:
    result: list[Tensor] = []
    for number in range(layers):
        layer = f"{name}.resblocks.{number}"
        result.append(Tensor(f"{layer}.attn.in_proj_weight", (3 * width, width)))
        result.append(Tensor(f"{layer}.attn.in_proj_bias", (3 * width,), "vector"))
        result += linear(f"{layer}.attn.out_proj", width, width)
        result += norm(f"{layer}.ln_1", width) + norm(f"{layer}.ln_2", width)
        result += linear(f"{layer}.mlp.c_fc", 4 * width, width)
        result += linear(f"{layer}.mlp.c_proj", width, 4 * width)
    return result
