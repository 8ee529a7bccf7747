"""roberta-large: a masked language model, stored with its head and without a pooler."""

from __future__ import annotations

from helpers.hub.blip import attention
from helpers.hub.layout import Repository
from helpers.hub.tensors import Tensor, linear, norm, table
from helpers.hub.vocabularies import byte_files

WORDS, PLACES = 50_265, 514
REAL = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
}
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 24,  # BERTScore reads the 17th layer
}


def repository(real: bool) -> Repository:
    sizes = REAL if real else SMALL
    config = {
        "architectures": ["RobertaForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": PLACES,
        "model_type": "roberta",
        "pad_token_id": 1,
        "type_vocab_size": 1,
        "vocab_size": WORDS,
        **sizes,
    }
    files = {"config.json": config}
    files |= byte_files(WORDS, "<s> $A </s>", settings={"model_max_length": 512})
    return Repository(files, tensors(sizes))


def tensors(sizes: dict[str, int]) -> list[Tensor]:
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    result = [
        Tensor("lm_head.bias", (WORDS,), "vector"),
        *linear("lm_head.dense", width, width),
        *norm("lm_head.layer_norm", width),
        Tensor("roberta.embeddings.position_ids", (1, PLACES), "places"),
        *table("roberta.embeddings.word_embeddings", WORDS, width),
        *table("roberta.embeddings.position_embeddings", PLACES, width),
        *table("roberta.embeddings.token_type_embeddings", 1, width),
        *norm("roberta.embeddings.LayerNorm", width),
    ]
    for number in range(sizes["num_hidden_layers"]):
        layer = f"roberta.encoder.layer.{number}"
        result += attention(f"{layer}.attention", width, width)
        result += linear(f"{layer}.intermediate.dense", inner, width)
        result += linear(f"{layer}.output.dense", width, inner)
        result += norm(f"{layer}.output.LayerNorm", width)
    return result
