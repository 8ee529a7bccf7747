"""Tiny vision-language checkpoints of many families, with random weights.

Each is made of the real classes of transformers: model, image processor, kind of tokenizer,
generation settings with several end tokens, and a chat template in the style of the real
checkpoint's. Weights are drawn wide enough that the image and the question both change the answer,
and end tokens are likely enough that answers have different lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.support.chat_templates import (
    GEMMA3_TEMPLATE,
    GRANITE_TEMPLATE,
    IDEFICS3_TEMPLATE,
    INTERNVL_TEMPLATE,
    QWEN2_5_TEMPLATE,
    QWEN3_TEMPLATE,
    SMOLVLM_TEMPLATE,
)
from tests.support.models import SIDE, save, widen
from tests.support.tokenizers import byte_level_tokenizer, gemma_tokenizer, token_id

PATCH = 8  # pixels of a side
_BODY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
_TEXT = {**_BODY, "num_hidden_layers": 2, "num_key_value_heads": 1, "max_position_embeddings": 512}
_VISION = {**_BODY, "num_hidden_layers": 2, "image_size": SIDE, "patch_size": PATCH}
_SQUARE = {"height": SIDE, "width": SIDE}


def _finish(
    model: Any, tokenizer: Any, ends: tuple[str, ...], scale: float, seed: int, likely: float = 2.0
) -> None:
    """Draw the weights, make the end tokens likely, and write them into the generation settings.

    Tokens that are special, or that have no text of their own, are never generated. Where the
    embeddings are also the output layer (tied), they are made small: a model would repeat the last
    token of its prompt otherwise.
    """
    widen(model, scale, seed)
    head = model.get_output_embeddings().weight
    end_ids = [token_id(tokenizer, end) for end in ends]
    silent = {token_id(tokenizer, token) for token in tokenizer.get_added_vocab()} - {*end_ids}
    tied = head is model.get_input_embeddings().weight
    with torch.no_grad():
        if tied:
            head *= 0.25
            model.get_decoder().norm.weight.fill_(3.0)
        head[sorted(silent)] *= 0.1 if tied else 0.0
        head[end_ids] *= likely
    model.generation_config.eos_token_id = end_ids
    model.generation_config.pad_token_id = tokenizer.pad_token_id


def _ids(tokenizer: Any) -> dict[str, Any]:
    """The language model's settings that its tokenizer decides."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _idefics3(folder: Path, tokenizer: Any, split: bool, template: str | None, seed: int) -> Path:
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    torch.manual_seed(seed)
    longest = 2 * SIDE if split else SIDE
    image_processor = Idefics3ImageProcessor(
        size={"longest_edge": longest},
        max_image_size={"longest_edge": SIDE},
        do_image_splitting=split,
    )
    processor = Idefics3Processor(image_processor, tokenizer, image_seq_len=4)
    processor.chat_template = template
    config = Idefics3Config(
        vision_config=_VISION,
        text_config={**_TEXT, **_ids(tokenizer), "model_type": "llama"},
        image_token_id=token_id(tokenizer, "<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Idefics3ForConditionalGeneration(config)
    _finish(model, tokenizer, ("<end_of_utterance>", tokenizer.eos_token), 2.0, seed)
    return save(folder, model, processor)


_IDEFICS3_TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
_TILES = tuple(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))


def save_smolvlm(folder: Path, seed: int = 0, template: str | None = SMOLVLM_TEMPLATE) -> Path:
    """SmolVLM: Idefics3's classes, a GPT-2 tokenizer, large images split into tiles."""
    specials = ("<|im_start|>", *_IDEFICS3_TOKENS, *_TILES)
    tokenizer = byte_level_tokenizer("gpt2", specials, bos="<|im_start|>", pad="<|im_end|>")
    return _idefics3(folder, tokenizer, True, template, seed)


def save_idefics3(folder: Path, seed: int = 0) -> Path:
    """Idefics3-8B: its tokenizer puts the start token that its template also writes."""
    specials = ("<|begin_of_text|>", *_IDEFICS3_TOKENS, *_TILES)
    start = "<|begin_of_text|>"
    tokenizer = byte_level_tokenizer("llama3", specials, bos=start, pad="<|pad|>", add_bos=True)
    return _idefics3(folder, tokenizer, False, IDEFICS3_TEMPLATE, seed)


def save_without_template(folder: Path, seed: int = 0) -> Path:
    """An image-text-to-text model of a class that can chat, but without a chat template."""
    return save_smolvlm(folder, seed, template=None)


_QWEN_TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip


def _qwen(
    folder: Path, classes: tuple[Any, Any, Any], vision: dict, rope: dict, template: str, seed: int
) -> Path:
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    config_class, model_class, processor_class = classes
    torch.manual_seed(seed)
    tokenizer = byte_level_tokenizer("qwen2", _QWEN_TOKENS, bos=None, pad="<|endoftext|>")
    # As in the real checkpoints <|im_end|> ends a turn, and <|endoftext|> is the pad token.
    tokenizer.eos_token = "<|im_end|>"
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    pixels = {"shortest_edge": 16 * 16, "longest_edge": 32 * 32}
    image_processor = Qwen2VLImageProcessor(size=pixels, **sizes)
    videos = Qwen2VLVideoProcessor(size=pixels, **sizes)
    processor = processor_class(image_processor, tokenizer, videos, chat_template=template)
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32, **vision,
    }  # fmt: skip
    text = {**_TEXT, **_ids(tokenizer), "num_hidden_layers": 3, "rope_parameters": rope}
    config = config_class(
        vision_config=vision,
        text_config=text,
        image_token_id=token_id(tokenizer, "<|image_pad|>"),
        video_token_id=token_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=token_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=token_id(tokenizer, "<|vision_end|>"),
    )
    model = model_class(config)
    _finish(model, tokenizer, ("<|im_end|>", "<|endoftext|>"), 2.0, seed)
    return save(folder, model, processor)


def save_qwen2_5_vl(folder: Path, seed: int = 0) -> Path:
    """Qwen2.5-VL: images of any proportion, window attention, three-dimensional positions."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
    )

    classes = (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor)
    vision = {"depth": 2, "window_size": 16, "fullatt_block_indexes": [1]}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    return _qwen(folder, classes, vision, rope, QWEN2_5_TEMPLATE, seed)


def save_qwen3_vl(folder: Path, seed: int = 0) -> Path:
    """Qwen3-VL: vision outputs also enter the first layers of the language model (deepstack)."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    classes = (Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor)
    vision = {"depth": 3, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2]}
    rope |= {"mrope_interleaved": True}
    return _qwen(folder, classes, vision, rope, QWEN3_TEMPLATE, seed)


def save_internvl(folder: Path, seed: int = 0) -> Path:
    """InternVL 3 in the form of transformers: images cut into tiles, each of 4 tokens."""
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    torch.manual_seed(seed)
    named = {
        "start_image_token": "<img>", "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
    }  # fmt: skip
    tokenizer = byte_level_tokenizer(
        "qwen2", ("<|im_start|>", "<|im_end|>"), bos=None, pad="<|endoftext|>", named=named
    )
    tokenizer.eos_token = "<|im_end|>"
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=_SQUARE, min_patches=1, max_patches=4, crop_to_patches=True),
        tokenizer,
        InternVLVideoProcessor(size=_SQUARE),
        image_seq_length=4,
        chat_template=INTERNVL_TEMPLATE,
    )
    square = {"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]}
    config = InternVLConfig(
        vision_config={**_VISION, **square, "norm_type": "layer_norm", "attention_bias": True},
        text_config={**_TEXT, **_ids(tokenizer), "model_type": "qwen2"},
        image_token_id=token_id(tokenizer, "<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    model = InternVLForConditionalGeneration(config)
    _finish(model, tokenizer, ("<|im_end|>", "<|endoftext|>"), 2.0, seed)
    return save(folder, model, processor)


def save_granite_vision(folder: Path, seed: int = 0) -> Path:
    """Granite Vision: LLaVA-NeXT over SigLIP, features of several vision layers side by side."""
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    torch.manual_seed(seed)
    specials = ("<|system|>", "<|user|>", "<|assistant|>", "<image>")
    tokenizer = byte_level_tokenizer("gpt2", specials, bos="<|end_of_text|>", pad="<|pad|>")
    grids = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(size=_SQUARE, crop_size=_SQUARE, image_grid_pinpoints=grids),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=GRANITE_TEMPLATE,
    )
    text = {**_TEXT, **_ids(tokenizer), "model_type": "granite", "embedding_multiplier": 2.0}
    text |= {"attention_multiplier": 0.25, "residual_multiplier": 0.8, "logits_scaling": 2.0}
    config = LlavaNextConfig(
        vision_config={**_VISION, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=text,
        image_token_index=token_id(tokenizer, "<image>"),
        vision_feature_layer=[-2, -1],
        vision_feature_select_strategy="full",
        image_grid_pinpoints=grids,
        image_seq_length=16,
    )
    model = LlavaNextForConditionalGeneration(config)
    _finish(model, tokenizer, ("<|endoftext|>", "<|end_of_text|>"), 2.0, seed, likely=3.0)
    return save(folder, model, processor)


_GEMMA_IMAGE = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}


def save_gemma3(folder: Path, seed: int = 0) -> Path:
    """Gemma 3: an image's tokens attend to each other; layers with a window and without."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
    )

    torch.manual_seed(seed)
    named = {**_GEMMA_IMAGE, "image_token": "<image_soft_token>"}
    turns = ("<start_of_turn>", "<end_of_turn>")
    tokenizer = gemma_tokenizer(turns, named, add_bos=True)
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size=_SQUARE),
        tokenizer,
        chat_template=GEMMA3_TEMPLATE,
        image_seq_length=4,
    )
    text = {**_TEXT, **_ids(tokenizer), "head_dim": 16, "query_pre_attn_scalar": 16}
    text |= {"sliding_window": 256, "layer_types": ["sliding_attention", "full_attention"]}
    config = Gemma3Config(
        vision_config={**_VISION, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=text,
        mm_tokens_per_image=4,
        boi_token_index=token_id(tokenizer, "<start_of_image>"),
        eoi_token_index=token_id(tokenizer, "<end_of_image>"),
        image_token_index=token_id(tokenizer, "<image_soft_token>"),
    )
    model = Gemma3ForConditionalGeneration(config)
    _finish(model, tokenizer, ("<eos>", "<end_of_turn>"), 2.0, seed, likely=4.0)
    return save(folder, model, processor)


def save_paligemma(folder: Path, seed: int = 0) -> Path:
    """PaliGemma: no template; the image and the whole prompt attend to each other."""
    return _paligemma(folder, {"model_type": "gemma"}, seed)


def save_paligemma2(folder: Path, seed: int = 0) -> Path:
    """PaliGemma 2: over Gemma 2, whose layers have a window or none and whose logits are capped."""
    text = {"model_type": "gemma2", "query_pre_attn_scalar": 16, "sliding_window": 256}
    text |= {"layer_types": ["sliding_attention", "full_attention"]}
    return _paligemma(folder, text, seed)


def _paligemma(folder: Path, text: dict[str, Any], seed: int) -> Path:
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    torch.manual_seed(seed)
    tokenizer = gemma_tokenizer((), {"image_token": "<image>"}, add_bos=True)
    image_processor = SiglipImageProcessor(size=_SQUARE)
    image_processor.image_seq_length = 16
    processor = PaliGemmaProcessor(image_processor, tokenizer)
    text = {**_TEXT, **_ids(tokenizer), "head_dim": 16, **text}
    config = PaliGemmaConfig(
        vision_config={**_VISION, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=text,
        image_token_index=token_id(tokenizer, "<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    model = PaliGemmaForConditionalGeneration(config)
    _finish(model, tokenizer, ("<eos>",), 2.0, seed, likely=3.0)
    return save(folder, model, processor)


VLM_SAVERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "smolvlm": ("chat", save_smolvlm),
    "idefics3": ("chat", save_idefics3),
    "qwen2_5_vl": ("chat", save_qwen2_5_vl),
    "qwen3_vl": ("chat", save_qwen3_vl),
    "internvl": ("chat", save_internvl),
    "granite_vision": ("chat", save_granite_vision),
    "gemma3": ("chat", save_gemma3),
    "without_template": ("prefix", save_without_template),
    "paligemma": ("prefix", save_paligemma),
    "paligemma2": ("prefix", save_paligemma2),
}
"""Name → its family in a profile and the function that saves its checkpoint in a folder."""
