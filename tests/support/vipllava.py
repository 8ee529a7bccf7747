"""A tiny chat model of an architecture that the engine doesn't know: VipLLaVA."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.support.chat_templates import SMOLVLM_TEMPLATE
from tests.support.models import SIDE, save, widen
from tests.support.tokenizers import byte_level_tokenizer, token_id


def save_vipllava(folder: Path, seed: int = 0) -> Path:
    """`VipLlavaForConditionalGeneration`: features of several layers of CLIP, and a template."""
    from transformers import (
        CLIPImageProcessor,
        LlavaProcessor,
        VipLlavaConfig,
        VipLlavaForConditionalGeneration,
    )

    torch.manual_seed(seed)
    specials = ("<|im_start|>", "<end_of_utterance>", "<image>")
    tokenizer = byte_level_tokenizer("gpt2", specials, bos="<|im_start|>", pad="<|pad|>")
    body = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    body["num_hidden_layers"] = 2
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = VipLlavaConfig(
        vision_config={**body, "model_type": "clip_vision_model", "image_size": SIDE,
                       "patch_size": 16},
        text_config={**body, "model_type": "llama", "vocab_size": len(tokenizer),
                     "max_position_embeddings": 512, "eos_token_id": end, "pad_token_id": pad},
        image_token_index=token_id(tokenizer, "<image>"),
        vision_feature_layers=[-1, -2],
        image_seq_length=4,
    )  # fmt: skip
    model = VipLlavaForConditionalGeneration(config)
    widen(model, 2.0, seed)
    ends = [end, token_id(tokenizer, "<end_of_utterance>")]
    with torch.no_grad():
        model.get_output_embeddings().weight[ends] *= 2.0
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = pad
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        CLIPImageProcessor(size=size, crop_size=size),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=SMOLVLM_TEMPLATE,
    )
    return save(folder, model, processor)
