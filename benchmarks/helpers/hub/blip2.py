"""Salesforce/blip2-opt-2.7b: ViT-g, a Q-Former with 32 queries, OPT with 2.7 billion weights."""

from __future__ import annotations

from typing import Any

from helpers.hub.blip import attention, tower
from helpers.hub.layout import Repository
from helpers.hub.tensors import Tensor, linear, norm, table
from helpers.hub.vocabularies import CLIP_MEAN, CLIP_STD, UNLIMITED, byte_files, token

IMAGE, WORDS, LINE_END, QUERIES = 50_265, 50_304, 50_118, 32
# The real configuration states none of the vision tower's and the Q-Former's sizes: they are the
# library's defaults, which the stored shapes rely on.
VISION = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
QUERY = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
QUERY |= {"encoder_hidden_size": 1408, "cross_attention_frequency": 2}
TEXT = {"hidden_size": 2560, "word_embed_proj_dim": 2560, "ffn_dim": 10240}
TEXT |= {"num_hidden_layers": 32, "num_attention_heads": 32}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 2}
SMALL_VISION = {**SMALL, "image_size": 28, "patch_size": 14}
SMALL_QUERY = {**SMALL, "encoder_hidden_size": 32, "cross_attention_frequency": 2}
SMALL_TEXT = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64}
SMALL_TEXT |= {"num_hidden_layers": 2, "num_attention_heads": 2}


def repository(real: bool) -> Repository:
    vision, query, text = (VISION, QUERY, TEXT) if real else (SMALL_VISION, SMALL_QUERY, SMALL_TEXT)
    image = token("<image>")
    files = {
        "config.json": _config({} if real else vision, {} if real else query, text),
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": 2,
            "eos_token_id": LINE_END,
            "pad_token_id": 1,
            "transformers_version": "4.47.0.dev0",
        },
        "preprocessor_config.json": _image_processor(vision["image_size"]),
        "processor_config.json": {
            "image_token": {key: image[key] for key in image if key != "special"},
            "num_query_tokens": QUERIES,
            "processor_class": "Blip2Processor",
        },
        "added_tokens.json": {"<image>": IMAGE},
        "special_tokens_map.json": {
            name: token(word)
            for name, word in (("bos_token", "</s>"), ("eos_token", "</s>"), ("unk_token", "</s>"))
        }
        | {"pad_token": token("<pad>")},
        **byte_files(IMAGE, "</s> $A", ["<image>"], _tokenizer_config(image)),
    }
    return Repository(files, tensors(vision, query, text), shards=2)


def _config(vision: dict[str, int], query: dict[str, int], text: dict[str, int]) -> dict[str, Any]:
    """config.json, with the sizes that it states."""
    return {
        "architectures": ["Blip2ForConditionalGeneration"],
        "model_type": "blip-2",
        "image_text_hidden_size": 256,
        "image_token_index": IMAGE,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "num_query_tokens": QUERIES,
        "qformer_config": {
            "classifier_dropout": None,
            "model_type": "blip_2_qformer",
            **query,
        },
        "text_config": {
            "_name_or_path": "facebook/opt-2.7b",
            "activation_dropout": 0.0,
            "architectures": ["OPTForCausalLM"],
            "eos_token_id": LINE_END,
            "model_type": "opt",
            "prefix": "</s>",
            "torch_dtype": "float16",
            "vocab_size": WORDS,
            **text,
        },
        "torch_dtype": "float32",
        "transformers_version": "4.47.0.dev0",
        "use_decoder_only_language_model": True,
        "vision_config": {
            "dropout": 0.0,
            "initializer_factor": 1.0,
            "model_type": "blip_2_vision_model",
            "num_channels": 3,
            "projection_dim": 512,
            **vision,
        },
    }


def _image_processor(side: int) -> dict[str, Any]:
    """preprocessor_config.json."""
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_processor_type": "BlipImageProcessor",
        "image_std": CLIP_STD,
        "processor_class": "Blip2Processor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": side, "width": side},
    }


def _tokenizer_config(image: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json."""
    return {
        "add_bos_token": True,
        "add_prefix_space": False,
        "added_tokens_decoder": {"1": token("<pad>"), "2": token("</s>"), str(IMAGE): image},
        "bos_token": "</s>",
        "clean_up_tokenization_spaces": True,
        "eos_token": "</s>",
        "errors": "replace",
        "model_max_length": UNLIMITED,
        "pad_token": "<pad>",
        "processor_class": "Blip2Processor",
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": "</s>",
    }


def tensors(vision: dict[str, int], query: dict[str, int], text: dict[str, int]) -> list[Tensor]:
    width = query["hidden_size"]
    return [
        Tensor("query_tokens", (1, QUERIES, width)),
        *tower("vision_model", vision),
        *norm("qformer.layernorm", width),
        *former(query),
        *linear("language_projection", text["hidden_size"], width),
        *opt(text),
    ]


def former(query: dict[str, int]) -> list[Tensor]:
    """The Q-Former: every second layer looks at the picture."""
    width, inner = query["hidden_size"], query["intermediate_size"]
    result = []
    for number in range(query["num_hidden_layers"]):
        layer = f"qformer.encoder.layer.{number}"
        result += attention(f"{layer}.attention", width, width, "attention")
        if number % query["cross_attention_frequency"] == 0:
            looked_at = query["encoder_hidden_size"]
            result += attention(f"{layer}.crossattention", width, looked_at, "attention")
        result += linear(f"{layer}.intermediate_query.dense", inner, width)
        result += linear(f"{layer}.output_query.dense", width, inner)
        result += norm(f"{layer}.output_query.LayerNorm", width)
    return result


def opt(text: dict[str, int]) -> list[Tensor]:
    """OPT's decoder; its head is the word embeddings and isn't stored."""
    width, inner, name = text["hidden_size"], text["ffn_dim"], "language_model.model.decoder"
    result = [
        *table(f"{name}.embed_tokens", WORDS, width),
        *table(f"{name}.embed_positions", 2050, width),
        *norm(f"{name}.final_layer_norm", width),
    ]
    for number in range(text["num_hidden_layers"]):
        layer = f"{name}.layers.{number}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            result += linear(f"{layer}.self_attn.{part}", width, width)
        result += norm(f"{layer}.self_attn_layer_norm", width)
        result += linear(f"{layer}.fc1", inner, width) + linear(f"{layer}.fc2", width, inner)
        result += norm(f"{layer}.final_layer_norm", width)
    return result
