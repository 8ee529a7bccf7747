"""The small BLIP-2 (`Blip2ForConditionalGeneration` with OPT) over the same frozen vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sample.blip import by_length, image_processor_settings
from sample.training import fit
from sample.trunk import WIDTH, vision_settings
from sample.vocabulary import bpe_tokenizer, encoded

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

    from sample.pretraining import Pair

QUERIES = 12
MAX_TEXT = 96
# Half of the training questions carry the pipeline's prompt, half stand alone.
PROMPTS = ("Question: {} Answer in one word:", "Question: {} Answer:")


def opt_tokenizer() -> PreTrainedTokenizerFast:
    """OPT's layout: </s> opens every text."""
    return bpe_tokenizer(MAX_TEXT, "</s> $A", ("<image>",), padding="left")


def blip2(tokenizer: PreTrainedTokenizerFast, seed: int) -> Blip2ForConditionalGeneration:
    """An untrained BLIP-2: tower of width 128, two Q-Former layers, two OPT layers."""
    import torch
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    qformer = {
        "vocab_size": 8,  # the Q-Former reads queries only
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 2 * WIDTH,
        "cross_attention_frequency": 1,
        "encoder_hidden_size": WIDTH,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": QUERIES,
    }
    text = {
        "model_type": "opt",
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "word_embed_proj_dim": WIDTH,
        "ffn_dim": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TEXT,
        "dropout": 0.0,
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    model = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=vision_settings(),
            qformer_config=qformer,
            text_config=text,
            num_query_tokens=QUERIES,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )
    torch.nn.init.normal_(model.query_tokens, std=0.5)  # zeros would stay equal to one another
    return model


def train_text(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    tokens: npt.NDArray[np.float16],
    pairs: Sequence[Pair],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """Train Q-Former, projection and OPT to continue prompts with answers."""
    import torch

    rng = np.random.default_rng(seed)
    prompts = encoded(tokenizer, [PROMPTS[rng.integers(2)].format(p.question) for p in pairs])
    replies = encoded(tokenizer, [p.answer for p in pairs])
    answers = [[*ids[1:], tokenizer.eos_token_id] for ids in replies]
    where = np.array([pair.picture for pair in pairs])
    lengths = np.array([len(p) + 100 * len(a) for p, a in zip(prompts, answers, strict=True)])
    at = iter(by_length(lengths, batch, steps, seed))

    def loss(_: npt.NDArray[np.int64]) -> Tensor:
        rows = next(at)
        vision = torch.from_numpy(tokens[where[rows]]).float()
        ids = torch.tensor([prompts[r] + answers[r] for r in rows])
        return text_loss(model, vision, ids, len(prompts[rows[0]]))

    still = {id(p) for p in model.vision_model.parameters()}
    parameters = [p for p in model.parameters() if id(p) not in still]
    return fit("blip2", parameters, loss, n=batch, steps=steps, batch=batch, lr=lr, seed=seed)


def text_loss(
    model: Blip2ForConditionalGeneration, vision: Tensor, ids: Tensor, prompt: int
) -> Tensor:
    """Cross-entropy of what follows the first `prompt` tokens of ids [b, t]."""
    import torch

    queries = model.query_tokens.expand(len(vision), -1, -1)
    query_output = model.qformer(query_embeds=queries, encoder_hidden_states=vision)
    prefix = model.language_projection(query_output.last_hidden_state)  # [b, queries, width]
    words = model.get_input_embeddings()(ids)
    logits = model.language_model(inputs_embeds=torch.cat([prefix, words], dim=1)).logits
    first = prefix.shape[1] + prompt
    return torch.nn.functional.cross_entropy(
        logits[:, first - 1 : -1].flatten(0, 1), ids[:, prompt:].flatten()
    )


def save_blip2(
    model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """fp16 weights, processor and tokenizer, as `from_pretrained` reads them."""
    from transformers import Blip2Processor, BlipImageProcessor

    model.half().save_pretrained(folder)
    images = BlipImageProcessor(**image_processor_settings())
    Blip2Processor(images, tokenizer, num_query_tokens=QUERIES).save_pretrained(folder)
