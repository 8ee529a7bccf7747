"""Salesforce/blip-vqa-base: ViT, a text encoder and a text decoder, both looking at the picture."""

from __future__ import annotations

from typing import Any

from helpers.hub.layout import Repository
from helpers.hub.tensors import Tensor, convolution, linear, norm, table
from helpers.hub.vocabularies import CLIP_MEAN, CLIP_STD, bert_files

WORDS, START, END = 30_524, 30_522, 102
VISION: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 384,
    "patch_size": 16,
}
TEXT: dict[str, Any] = {
    "hidden_size": 768,
    "encoder_hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 2}
SMALL_VISION = {**SMALL, "image_size": 32}
SMALL_TEXT = {**SMALL, "encoder_hidden_size": 32, "projection_dim": 32}


def repository(real: bool) -> Repository:
    vision, text = (VISION, TEXT) if real else (VISION | SMALL_VISION, TEXT | SMALL_TEXT)
    text = {
        **text,
        "model_type": "blip_text_model",
        "vocab_size": WORDS,
        "bos_token_id": START,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "sep_token_id": END,
        "max_position_embeddings": 512,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "is_decoder": True,
        "use_cache": True,
    }
    vision = {
        **vision,
        "model_type": "blip_vision_model",
        "num_channels": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-05,
        "initializer_range": 0.02,
        "projection_dim": 512,
    }
    config = {
        "architectures": ["BlipForQuestionAnswering"],
        "model_type": "blip",
        "image_text_hidden_size": 256,
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "projection_dim": 512,
        "text_config": text,
        "vision_config": vision,
        "torch_dtype": "float32",
        "transformers_version": None,
    }
    pictures = {
        "do_normalize": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "image_processor_type": "BlipImageProcessor",
        "processor_class": "BlipProcessor",
        "resample": 3,
        "size": {"height": vision["image_size"], "width": vision["image_size"]},
    }
    files = {"config.json": config, "preprocessor_config.json": pictures}
    files |= bert_files(512, processor_class="BlipProcessor")
    return Repository(files, tensors(vision, text))


def tensors(vision: dict[str, Any], text: dict[str, Any]) -> list[Tensor]:
    width = text["hidden_size"]
    head = "text_decoder.cls.predictions"
    words = "text_decoder.bert.embeddings.word_embeddings.weight"
    return [
        *tower("vision_model", vision),
        *reader("text_encoder", text),
        *reader("text_decoder.bert", text),
        Tensor(f"{head}.bias", (WORDS,), "vector"),
        *linear(f"{head}.transform.dense", width, width),
        *norm(f"{head}.transform.LayerNorm", width),
        # One matrix with the word embeddings, and stored all the same; the decoder's bias, which
        # is `predictions.bias` by another name, isn't.
        Tensor(f"{head}.decoder.weight", (WORDS, width), like=words),
    ]


def tower(name: str, vision: dict[str, Any]) -> list[Tensor]:
    """BLIP's and BLIP-2's vision tower: queries, keys and values are one matrix."""
    width, inner, side = (vision[k] for k in ("hidden_size", "intermediate_size", "patch_size"))
    patches = (vision["image_size"] // side) ** 2
    result = [
        Tensor(f"{name}.embeddings.class_embedding", (1, 1, width)),
        Tensor(f"{name}.embeddings.position_embedding", (1, patches + 1, width)),
        *convolution(f"{name}.embeddings.patch_embedding", width, side),
        *norm(f"{name}.post_layernorm", width),
    ]
    for number in range(vision["num_hidden_layers"]):
        layer = f"{name}.encoder.layers.{number}"
        result += linear(f"{layer}.self_attn.qkv", 3 * width, width)
        result += linear(f"{layer}.self_attn.projection", width, width)
        result += norm(f"{layer}.layer_norm1", width) + norm(f"{layer}.layer_norm2", width)
        result += linear(f"{layer}.mlp.fc1", inner, width) + linear(
            f"{layer}.mlp.fc2", width, inner
        )
    return result


def reader(name: str, text: dict[str, Any]) -> list[Tensor]:
    """BERT with cross-attention to the picture."""
    width, inner = text["hidden_size"], text["intermediate_size"]
    result = [
        Tensor(f"{name}.embeddings.position_ids", (1, 512), "places"),
        *table(f"{name}.embeddings.word_embeddings", WORDS, width),
        *table(f"{name}.embeddings.position_embeddings", 512, width),
        *norm(f"{name}.embeddings.LayerNorm", width),
    ]
    for number in range(text["num_hidden_layers"]):
        layer = f"{name}.encoder.layer.{number}"
        result += attention(f"{layer}.attention", width, width)
        result += attention(f"{layer}.crossattention", width, text["encoder_hidden_size"])
        result += linear(f"{layer}.intermediate.dense", inner, width)
        result += linear(f"{layer}.output.dense", width, inner)
        result += norm(f"{layer}.output.LayerNorm", width)
    return result


def attention(name: str, width: int, looked_at: int, inside: str = "self") -> list[Tensor]:
    """BERT's attention over vectors of width `looked_at`, with its output and norm."""
    return [
        *linear(f"{name}.{inside}.query", width, width),
        *linear(f"{name}.{inside}.key", width, looked_at),
        *linear(f"{name}.{inside}.value", width, looked_at),
        *linear(f"{name}.output.dense", width, width),
        *norm(f"{name}.output.LayerNorm", width),
    ]
