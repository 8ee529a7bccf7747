"""facebook/bart-large-cnn: encoder and decoder over one table of words."""

from __future__ import annotations

from helpers.hub.layout import Repository
from helpers.hub.tensors import Tensor, linear, norm, table
from helpers.hub.vocabularies import byte_files

WORDS, PLACES = 50_264, 1024  # the tokenizer has one more, <mask>
REAL = {"d_model": 1024, "ffn": 4096, "layers": 12, "heads": 16}
SMALL = {"d_model": 32, "ffn": 64, "layers": 2, "heads": 2}


def repository(real: bool) -> Repository:
    sizes = REAL if real else SMALL
    sides = {
        f"{side}_{name}": sizes[key]
        for side in ("encoder", "decoder")
        for name, key in (("attention_heads", "heads"), ("ffn_dim", "ffn"), ("layers", "layers"))
    }
    config = {
        "architectures": ["BartForConditionalGeneration"],
        "activation_dropout": 0.0,
        "activation_function": "gelu",
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "classifier_dropout": 0.0,
        "d_model": sizes["d_model"],
        "decoder_start_token_id": 2,
        "dropout": 0.1,
        "early_stopping": True,
        "eos_token_id": 2,
        "force_bos_token_to_be_generated": True,
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 2,
        "gradient_checkpointing": False,
        "init_std": 0.02,
        "is_encoder_decoder": True,
        "length_penalty": 2.0,
        "max_length": 142,
        "max_position_embeddings": PLACES,
        "min_length": 56,
        "model_type": "bart",
        "no_repeat_ngram_size": 3,
        "normalize_before": False,
        "num_beams": 4,
        "pad_token_id": 1,
        "prefix": " ",
        "scale_embedding": False,
        "use_cache": True,
        "vocab_size": WORDS,
        **sides,
    }
    copied = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "forced_bos_token_id")
    copied += ("forced_eos_token_id", "length_penalty", "max_length", "min_length", "num_beams")
    files = {
        "config.json": config,
        "generation_config.json": {name: config[name] for name in (*copied, "pad_token_id")},
        **byte_files(WORDS + 1, "<s> $A </s>"),
    }
    return Repository(files, tensors(sizes))


def tensors(sizes: dict[str, int]) -> list[Tensor]:
    width, inner = sizes["d_model"], sizes["ffn"]
    # The file has no `final_logits_bias`: the library makes it, as zeros.
    result = table("model.shared", WORDS, width)
    for side in ("encoder", "decoder"):
        result += table(f"model.{side}.embed_positions", PLACES + 2, width)
        result += norm(f"model.{side}.layernorm_embedding", width)
        for number in range(sizes["layers"]):
            layer = f"model.{side}.layers.{number}"
            result += attention(f"{layer}.self_attn", width)
            result += norm(f"{layer}.self_attn_layer_norm", width)
            if side == "decoder":
                result += attention(f"{layer}.encoder_attn", width)
                result += norm(f"{layer}.encoder_attn_layer_norm", width)
            result += linear(f"{layer}.fc1", inner, width) + linear(f"{layer}.fc2", width, inner)
            result += norm(f"{layer}.final_layer_norm", width)
    return result


def attention(name: str, width: int) -> list[Tensor]:
    parts = ("k_proj", "v_proj", "q_proj", "out_proj")
    return [t for part in parts for t in linear(f"{name}.{part}", width, width)]
