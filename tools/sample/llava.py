"""The small LLaVA (`LlavaForConditionalGeneration`): a CLIP vision tower and a two-layer LLaMA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sample.blip import by_length, image_processor_settings
from sample.training import fit
from sample.trunk import HEADS, LAYERS, MLP, WIDTH
from sample.vocabulary import bpe_tokenizer, encoded

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

    from sample.pretraining import Pair

MAX_TEXT = 160  # 64 patches and a question
LAYER = -2  # the last layer but one, as in LLaVA-1.5
PROMPT = "<image> Question: {} Answer:"


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """LLaMA's layout: <s> opens every text."""
    return bpe_tokenizer(MAX_TEXT, "<s> $A", ("<image>",), padding="left")


def llava(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """An untrained LLaVA: CLIP tower of width 128, LLaMA of two layers."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers import LlavaForConditionalGeneration as Llava

    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS + 1,  # the last one is never read
        num_attention_heads=HEADS,
        image_size=64,
        patch_size=8,
        hidden_act="gelu",
        projection_dim=WIDTH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_TEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return Llava(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            vision_feature_layer=LAYER,
            vision_feature_select_strategy="default",
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            image_seq_length=64,
            tie_word_embeddings=True,
        )
    )


def adopt(model: LlavaForConditionalGeneration, tower: nn.Module) -> None:
    """Start CLIP's layers from a trained `BlipVisionModel`.

    CLIP has no bias on its patches (it goes into the positions) and a LayerNorm before the first
    layer, which makes the copy inexact: it needs some training of its own.
    """
    import torch

    source = {name: p.detach() for name, p in tower.named_parameters()}
    target = dict(model.model.vision_tower.named_parameters())
    bare = {name.removeprefix("vision_model."): p for name, p in target.items()}
    with torch.no_grad():
        positions = source["embeddings.position_embedding"][0].clone()
        positions[1:] += source["embeddings.patch_embedding.bias"]
        bare["embeddings.position_embedding.weight"].copy_(positions)
        bare["embeddings.patch_embedding.weight"].copy_(source["embeddings.patch_embedding.weight"])
        bare["embeddings.class_embedding"].copy_(source["embeddings.class_embedding"].flatten())
        for k in range(LAYERS):
            layer = f"encoder.layers.{k}."
            for kind in ("weight", "bias"):
                fused = source[f"{layer}self_attn.qkv.{kind}"].chunk(3)
                for part, value in zip("qkv", fused, strict=True):
                    bare[f"{layer}self_attn.{part}_proj.{kind}"].copy_(value)
                bare[f"{layer}self_attn.out_proj.{kind}"].copy_(
                    source[f"{layer}self_attn.projection.{kind}"]
                )
                for name in ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"):
                    bare[f"{layer}{name}.{kind}"].copy_(source[f"{layer}{name}.{kind}"])


def train_text(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    tokens: npt.NDArray[np.float16],
    pairs: Sequence[Pair],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """Train projector and LLaMA over the frozen tower's [n, 64, width] patch features."""
    import torch

    before, after = PROMPT.split("<image>")
    head = tokenizer(before).input_ids  # <s>
    prompt_ids = [ids[1:] for ids in encoded(tokenizer, [after.format(p.question) for p in pairs])]
    replies = encoded(tokenizer, [p.answer for p in pairs])
    answers = [[*ids[1:], tokenizer.eos_token_id] for ids in replies]
    where = np.array([pair.picture for pair in pairs])
    lengths = np.array([len(q) + 100 * len(a) for q, a in zip(prompt_ids, answers, strict=True)])
    at = iter(by_length(lengths, batch, steps, seed))
    embed = model.get_input_embeddings()

    def loss(_: npt.NDArray[np.int64]) -> Tensor:
        rows = next(at)
        patches = torch.from_numpy(tokens[where[rows]]).float()
        image_features = model.model.multi_modal_projector(patches)
        ids = torch.tensor([prompt_ids[r] + answers[r] for r in rows])
        first = embed(torch.tensor(head)).expand(len(rows), -1, -1)
        whole = torch.cat([first, image_features, embed(ids)], dim=1)
        prompt = len(prompt_ids[rows[0]])
        start = whole.shape[1] - ids.shape[1] + prompt
        state = model.model.language_model(inputs_embeds=whole).last_hidden_state
        logits = model.lm_head(state[:, start - 1 : -1])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, prompt:].flatten())

    still = {id(p) for p in model.model.vision_tower.parameters()}
    parameters = [p for p in model.parameters() if id(p) not in still]
    return fit("llava", parameters, loss, n=batch, steps=steps, batch=batch, lr=lr, seed=seed)


def save_llava(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """fp16 weights, processor and tokenizer, as `from_pretrained` reads them."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    model.half().save_pretrained(folder)
    settings = image_processor_settings()
    images = CLIPImageProcessor(
        **{**settings, "size": {"shortest_edge": 64}}, crop_size={"height": 64, "width": 64}
    )
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token, which "default" then drops
    ).save_pretrained(folder)
