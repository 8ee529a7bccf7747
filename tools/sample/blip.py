"""The small BLIP (`BlipForQuestionAnswering`), trained over its frozen, pretrained vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sample.training import MEAN, STD, fit
from sample.trunk import WIDTH, vision_settings
from sample.vocabulary import encoded

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertTokenizer, BlipForQuestionAnswering

    from sample.pretraining import Pair

MAX_TEXT = 64
TEXT_LAYERS = 3


def blip(tokenizer: BertTokenizer, seed: int) -> BlipForQuestionAnswering:
    """An untrained BLIP of 64 px, patch 8 and width 128."""
    import torch
    from transformers import BlipConfig, BlipForQuestionAnswering

    start = tokenizer.convert_tokens_to_ids("[DEC]")
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "encoder_hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "projection_dim": WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TEXT,
        "bos_token_id": start,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "label_smoothing": 0.0,
    }
    torch.manual_seed(seed)
    config = BlipConfig(
        text_config=text,
        vision_config=vision_settings(),
        projection_dim=WIDTH,
        image_text_hidden_size=WIDTH,
    )
    return BlipForQuestionAnswering(config)


def by_length(
    lengths: npt.NDArray[np.int64], size: int, steps: int, seed: int
) -> list[npt.NDArray[np.int64]]:
    """Batches of pairs whose questions have the same number of tokens: no padding to attend to."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(lengths == n) for n in np.unique(lengths)]
    share = np.array([len(g) for g in groups], dtype=float)
    chosen = rng.choice(len(groups), size=steps, p=share / share.sum())
    return [rng.choice(groups[k], size=min(size, len(groups[k])), replace=False) for k in chosen]


def train_text(
    model: BlipForQuestionAnswering,
    tokenizer: BertTokenizer,
    tokens: npt.NDArray[np.float16],
    pairs: Sequence[Pair],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """Train the text encoder and decoder on [n, 65, width] vision outputs."""
    import torch

    questions = encoded(tokenizer, [pair.question for pair in pairs])
    start = tokenizer.convert_tokens_to_ids("[DEC]")  # generation starts from it
    answers = [[start, *ids[1:]] for ids in encoded(tokenizer, [pair.answer for pair in pairs])]
    where = np.array([pair.picture for pair in pairs])
    order = by_length(np.array([len(q) for q in questions]), batch, steps, seed)
    at = iter(order)

    def loss(_: npt.NDArray[np.int64]) -> Tensor:
        rows = next(at)
        vision = torch.from_numpy(tokens[where[rows]]).float()
        question_ids = torch.tensor([questions[r] for r in rows])
        replies = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(answers[r]) for r in rows], batch_first=True
        )
        return text_loss(model, vision, question_ids, replies)

    parameters = [*model.text_encoder.parameters(), *model.text_decoder.parameters()]
    return fit("blip", parameters, loss, n=batch, steps=steps, batch=batch, lr=lr, seed=seed)


def text_loss(
    model: BlipForQuestionAnswering, vision: Tensor, question_ids: Tensor, replies: Tensor
) -> Tensor:
    """Mean cross-entropy of the answers; replies [b, t] padded with 0."""
    state = model.text_encoder(
        input_ids=question_ids, encoder_hidden_states=vision, return_dict=True
    )
    out = model.text_decoder(
        input_ids=replies,
        attention_mask=(replies != 0).long(),
        encoder_hidden_states=state.last_hidden_state,
        labels=replies.masked_fill(replies == 0, -100),
        return_dict=True,
        reduction="mean",
    )
    value: Tensor = out.loss
    return value


def image_processor_settings() -> dict[str, Any]:
    """64 px, bicubic, CLIP's normalisation."""
    return {
        "size": {"height": 64, "width": 64},
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "do_rescale": True,
        "do_normalize": True,
    }


def save_blip(model: BlipForQuestionAnswering, tokenizer: BertTokenizer, folder: Path) -> None:
    """fp16 weights, processor and tokenizer, as `from_pretrained` reads them."""
    from transformers import BlipImageProcessor, BlipProcessor

    model.half().save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(**image_processor_settings()), tokenizer).save_pretrained(
        folder
    )
