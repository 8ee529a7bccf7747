"""llava-hf/llava-1.5-7b-hf: CLIP's ViT-L at 336 pixels, a projector, Vicuna with 7B weights."""

from __future__ import annotations

from typing import Any

from helpers.hub.layout import Repository
from helpers.hub.tensors import Tensor, convolution, linear, norm, table
from helpers.hub.vocabularies import CLIP_MEAN, CLIP_STD, UNLIMITED, llama_files, token

IMAGE, PAD, WORDS = 32_000, 32_001, 32_064
VISION = {
    "hidden_size": 1024,
    "image_size": 336,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
}
# The real configuration leaves Vicuna's sizes to LLaMA's defaults.
TEXT = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
SMALL_VISION = {
    "hidden_size": 32,
    "image_size": 28,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "patch_size": 14,
}
SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SMALL_TEXT |= {"num_attention_heads": 2, "num_key_value_heads": 2}


def repository(real: bool, layers: int | None = None) -> Repository:
    """The repository's files and weights.

    Args:
        real: at the real size, not a small one.
        layers: how many layers the language model has, if not all of them.
    """
    vision, text = (VISION, TEXT) if real else (SMALL_VISION, SMALL_TEXT)
    depth = {} if layers is None else {"num_hidden_layers": layers}
    text = {**text, **depth}
    files = {
        "config.json": _config(vision, depth if real else text),
        "preprocessor_config.json": _image_processor(vision["image_size"]),
        "processor_config.json": {
            "image_token": "<image>",
            "num_additional_image_tokens": 1,
            "patch_size": vision["patch_size"],
            "processor_class": "LlavaProcessor",
            "vision_feature_select_strategy": "default",
        },
        "added_tokens.json": {"<image>": IMAGE, "<pad>": PAD},
        "special_tokens_map.json": {
            f"{name}_token": token(word)
            for name, word in (("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>"), ("unk", "<unk>"))
        },
        **llama_files(["<image>", "<pad>"], _tokenizer_config()),
    }
    return Repository(files, tensors(vision, text), "float16", shards=3)


def _config(vision: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    """config.json; `text` has what it states of the language model's sizes."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_token_index": IMAGE,
        "model_type": "llava",
        "pad_token_id": PAD,
        "projector_hidden_act": "gelu",
        "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5",
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096,
            "model_type": "llama",
            "rms_norm_eps": 1e-05,
            "torch_dtype": "float16",
            "vocab_size": WORDS,
            **text,
        },
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.36.0.dev0",
        "vision_config": {
            "model_type": "clip_vision_model",
            "projection_dim": 768,
            "vocab_size": 32_000,
            **vision,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": WORDS,
    }


def _image_processor(side: int) -> dict[str, Any]:
    """preprocessor_config.json."""
    return {
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": CLIP_STD,
        "processor_class": "LlavaProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": side},
    }


def _tokenizer_config() -> dict[str, Any]:
    """tokenizer_config.json."""
    marks = {0: "<unk>", 1: "<s>", 2: "</s>", IMAGE: "<image>", PAD: "<pad>"}
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {str(place): token(word) for place, word in marks.items()},
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "extra_special_tokens": {"image_token": "<image>"},
        "image_token": "<image>",
        "legacy": False,
        "model_max_length": UNLIMITED,
        "pad_token": "<pad>",
        "padding_side": "left",
        "processor_class": "LlavaProcessor",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "trust_remote_code": False,
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }


def tensors(vision: dict[str, Any], text: dict[str, Any]) -> list[Tensor]:
    width = text["hidden_size"]
    return [
        *tower("vision_tower.vision_model", vision),
        *linear("multi_modal_projector.linear_1", width, vision["hidden_size"]),
        *linear("multi_modal_projector.linear_2", width, width),
        *llama("language_model", text),
    ]


def tower(name: str, vision: dict[str, Any]) -> list[Tensor]:
    """CLIP's vision tower; the misspelt norm is the library's."""
    width, inner, side = (vision[k] for k in ("hidden_size", "intermediate_size", "patch_size"))
    patches = (vision["image_size"] // side) ** 2
    result = [
        Tensor(f"{name}.embeddings.class_embedding", (width,), "vector"),
        *convolution(f"{name}.embeddings.patch_embedding", width, side, bias=False),
        *table(f"{name}.embeddings.position_embedding", patches + 1, width),
        *norm(f"{name}.pre_layrnorm", width),
        *norm(f"{name}.post_layernorm", width),
    ]
    for number in range(vision["num_hidden_layers"]):
        layer = f"{name}.encoder.layers.{number}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            result += linear(f"{layer}.self_attn.{part}", width, width)
        result += norm(f"{layer}.layer_norm1", width) + norm(f"{layer}.layer_norm2", width)
        result += linear(f"{layer}.mlp.fc1", inner, width) + linear(
            f"{layer}.mlp.fc2", width, inner
        )
    return result


def llama(name: str, text: dict[str, Any]) -> list[Tensor]:
    """A LLaMA with a head of its own; nothing has a bias."""
    width, inner = text["hidden_size"], text["intermediate_size"]
    result = table(f"{name}.model.embed_tokens", WORDS, width)
    for number in range(text["num_hidden_layers"]):
        layer = f"{name}.model.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            result += linear(f"{layer}.self_attn.{part}", width, width, bias=False)
        result += linear(f"{layer}.mlp.gate_proj", inner, width, bias=False)
        result += linear(f"{layer}.mlp.up_proj", inner, width, bias=False)
        result += linear(f"{layer}.mlp.down_proj", width, inner, bias=False)
        result.append(Tensor(f"{layer}.input_layernorm.weight", (width,), "scale"))
        result.append(Tensor(f"{layer}.post_attention_layernorm.weight", (width,), "scale"))
    result.append(Tensor(f"{name}.model.norm.weight", (width,), "scale"))
    return result + table(f"{name}.lm_head", WORDS, width)
