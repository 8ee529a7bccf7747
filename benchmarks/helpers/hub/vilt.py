"""dandelin/vilt-b32-finetuned-vqa: one transformer over words and patches, 3,129 answers.

From before safetensors: a pickle, and the settings of what was then called a feature extractor.
"""

from __future__ import annotations

from helpers.hub.layout import Repository
from helpers.hub.tensors import Tensor, convolution, linear, norm, table
from helpers.hub.vocabularies import ANSWERS, bert_files

LABELS, WORDS, LONGEST = 3_129, 30_522, 40
REAL = {
    "hidden_size": 768,
    "image_size": 384,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "patch_size": 32,
}
SMALL = {
    "hidden_size": 32,
    "image_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "patch_size": 32,
}


def repository(real: bool) -> Repository:
    sizes = REAL if real else SMALL
    known = [line for line in ANSWERS.read_text(encoding="utf-8").splitlines() if line.strip()]
    answers = [*known[:LABELS], *(f"answer{n}" for n in range(LABELS - len(known)))]
    config = {
        "architectures": ["ViltForQuestionAnswering"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "id2label": {str(number): answer for number, answer in enumerate(answers)},
        "initializer_range": 0.02,
        "label2id": {answer: number for number, answer in enumerate(answers)},
        "layer_norm_eps": 1e-12,
        "max_image_length": -1,
        "max_position_embeddings": LONGEST,
        "modality_type_vocab_size": 2,
        "model_type": "vilt",
        "num_channels": 3,
        "num_images": -1,
        "qkv_bias": True,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "transformers_version": "4.16.0.dev0",
        "type_vocab_size": 2,
        "vocab_size": WORDS,
        **sizes,
    }
    pictures = {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "ViltFeatureExtractor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "size": sizes["image_size"],
        "size_divisor": 32,
    }
    files = {"config.json": config, "preprocessor_config.json": pictures}
    files |= bert_files(LONGEST)
    return Repository(files, tensors(sizes), weights="pytorch_model.bin")


def tensors(sizes: dict[str, int]) -> list[Tensor]:
    width, inner, side = (sizes[k] for k in ("hidden_size", "intermediate_size", "patch_size"))
    patches = (sizes["image_size"] // side) ** 2
    text = "vilt.embeddings.text_embeddings"
    result = [
        Tensor(f"{text}.position_ids", (1, LONGEST), "places"),
        *table(f"{text}.word_embeddings", WORDS, width),
        *table(f"{text}.position_embeddings", LONGEST, width),
        *table(f"{text}.token_type_embeddings", 2, width),
        *norm(f"{text}.LayerNorm", width),
        Tensor("vilt.embeddings.cls_token", (1, 1, width)),
        Tensor("vilt.embeddings.position_embeddings", (1, patches + 1, width)),
        *convolution("vilt.embeddings.patch_embeddings.projection", width, side),
        *table("vilt.embeddings.token_type_embeddings", 2, width),
        *norm("vilt.layernorm", width),
        *linear("vilt.pooler.dense", width, width),
        *linear("classifier.0", 2 * width, width),
        *norm("classifier.1", 2 * width),
        *linear("classifier.3", LABELS, 2 * width),
    ]
    for number in range(sizes["num_hidden_layers"]):
        layer = f"vilt.encoder.layer.{number}"
        for part in ("query", "key", "value"):
            result += linear(f"{layer}.attention.attention.{part}", width, width)
        result += linear(f"{layer}.attention.output.dense", width, width)
        result += linear(f"{layer}.intermediate.dense", inner, width)
        result += linear(f"{layer}.output.dense", width, inner)
        result += norm(f"{layer}.layernorm_before", width)
        result += norm(f"{layer}.layernorm_after", width)
    return result
