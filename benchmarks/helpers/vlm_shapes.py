"""Decoder-only models in the widths of three real ones, with random weights and fewer layers.

LLaVA-1.5-7b, PaliGemma-3b-224 and Qwen2.5-VL-3B: each keeps its widths, heads and image size. The
language model, the vision tower and the vocabulary are cut in the same proportion, so that each
part's share of the work stays about what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from helpers.families import body, causal_tokenizer
from helpers.random_weights import empty, fill
from helpers.settings import Weights

_ONE_WORD = "{question} answer in one word"
_WIDE = 1.5  # standard deviation of weights times the square root of their inputs


@dataclass(frozen=True)
class Shape:
    """One model's real sizes.

    Attributes:
        layers: of the language model.
        vision_layers: of the vision tower.
        words: its vocabulary.
        build: layers, vision layers, words → the model without weights, its processor, its class
            and its prompt.
    """

    layers: int
    vision_layers: int
    words: int
    build: Callable[[int, int, int], tuple[Any, Any, Any, str]]

    def make(
        self, layers: int, device: torch.device, dtype: torch.dtype, endless: bool = False
    ) -> Any:
        """Ours, with this many layers of the language model.

        An `endless` one can't end its answers: all variants write equally many tokens then.
        """
        part = layers / self.layers
        vision_layers = max(1, int(part * self.vision_layers))
        words = max(2_000, int(part * self.words))
        model, processor, ours, prompt = self.build(layers, vision_layers, words)
        weights = Weights("random weights", "chat", prompt=prompt, max_new_tokens=3)
        filled = fill(model, device, dtype, _WIDE, _WIDE)
        filled.generation_config.eos_token_id = words if endless else 2
        filled.generation_config.pad_token_id = 1
        return ours(filled, processor, weights, device)


def _llava(layers: int, vision_layers: int, words: int) -> tuple[Any, Any, Any, str]:
    from transformers import (
        CLIPImageProcessor,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    from abo_vqa.models.llava import Llava

    tokens = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
    tokenizer = causal_tokenizer(tokens, words, "<s>", "</s>", "<pad>")
    side, patch = 336, 14
    text = {**body(4096, layers, 32, 11008), "model_type": "llama", "vocab_size": words,
            "num_key_value_heads": 32, "max_position_embeddings": 4096, "bos_token_id": 1,
            "eos_token_id": 2, "pad_token_id": 3}  # fmt: skip
    vision = {**body(1024, vision_layers, 16, 4096), "model_type": "clip_vision_model",
              "image_size": side, "patch_size": patch}  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4,
                         image_seq_length=(side // patch) ** 2, vision_feature_layer=-1,
                         vision_feature_select_strategy="default")  # fmt: skip
    images = CLIPImageProcessor(size={"shortest_edge": side},
                                crop_size={"height": side, "width": side})  # fmt: skip
    processor = LlavaProcessor(images, tokenizer, patch_size=patch, num_additional_image_tokens=1,
                               vision_feature_select_strategy="default")  # fmt: skip
    model = empty(lambda: LlavaForConditionalGeneration(config))
    return model, processor, Llava, "<image> question: {question} answer:"


def _paligemma(layers: int, vision_layers: int, words: int) -> tuple[Any, Any, Any, str]:
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    from abo_vqa.models.prefix import Prefix

    tokens = ("<unk>", "<bos>", "<eos>", "<pad>", "<image>")
    tokenizer = causal_tokenizer(tokens, words, "<bos>", "<eos>", "<pad>")
    tokenizer.image_token, tokenizer.image_token_id = "<image>", 4
    images = SiglipImageProcessor(size={"height": 224, "width": 224})
    images.image_seq_length = 256
    processor = PaliGemmaProcessor(images, tokenizer)
    text = {**body(2048, layers, 8, 16384), "model_type": "gemma", "vocab_size": len(tokenizer),
            "num_key_value_heads": 1, "head_dim": 256, "bos_token_id": 1, "eos_token_id": 2,
            "pad_token_id": 3}  # fmt: skip
    vision = {**body(1152, vision_layers, 16, 4304), "model_type": "siglip_vision_model",
              "image_size": 224, "patch_size": 14, "vision_use_head": False}  # fmt: skip
    config = PaliGemmaConfig(vision_config=vision, text_config=text, image_token_index=4,
                             projection_dim=2048, hidden_size=2048)  # fmt: skip
    model = empty(lambda: PaliGemmaForConditionalGeneration(config))
    return model, processor, Prefix, _ONE_WORD


def _qwen(layers: int, vision_layers: int, words: int) -> tuple[Any, Any, Any, str]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    from abo_vqa.models.chat import Chat

    tokens = ("<unk>", "<start>", "<end>", "<pad>", "<|image_pad|>", "<|video_pad|>",
              "<|vision_start|>", "<|vision_end|>")  # fmt: skip
    tokenizer = causal_tokenizer(tokens, words, "<start>", "<end>", "<pad>")
    template = (
        "{% for message in messages %}<start>{{ message['role'] }}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %} {{ part['text'] }}{% endif %}"
        "{% endfor %}<end>{% endfor %}{% if add_generation_prompt %}<start>assistant{% endif %}"
    )
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), chat_template=template
    )
    text = {**body(2048, layers, 16, 11008), "vocab_size": words, "num_key_value_heads": 2,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6,
                                "mrope_section": [16, 24, 24]}}  # fmt: skip
    vision = {"depth": vision_layers, "hidden_size": 1280, "intermediate_size": 3420,
              "num_heads": 16, "out_hidden_size": 2048,
              "fullatt_block_indexes": [vision_layers - 1]}  # fmt: skip
    config = Qwen2_5_VLConfig(vision_config=vision, text_config=text, image_token_id=4,
                              video_token_id=5, vision_start_token_id=6,
                              vision_end_token_id=7)  # fmt: skip
    model = empty(lambda: Qwen2_5_VLForConditionalGeneration(config))
    return model, processor, Chat, _ONE_WORD


SHAPES = {
    "llava": Shape(32, 24, 32_064, _llava),
    "paligemma": Shape(18, 27, 257_216, _paligemma),
    "qwen": Shape(36, 32, 151_936, _qwen),
}
