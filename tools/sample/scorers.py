"""The two small models that metrics need: a BART for BARTScore, an encoder for BERTScore.

Both learn from the words of questions and captions alone: what is the same, what is close
(another colour, a synonym), what has nothing to do with it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sample.pretraining import FORMS, NOUNS, SYNONYMS, Pair, ask, caption
from sample.studio import MATERIALS, PATTERNS, SAMPLE_PALETTE
from sample.training import fit
from sample.vocabulary import bert_tokenizer, bpe_tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import (
        BartForConditionalGeneration,
        BertForMaskedLM,
        BertTokenizer,
        PreTrainedTokenizerFast,
    )

    from sample.scene import Look

WIDTH = 96
MAX_TEXT = 64
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
GROUPS: tuple[tuple[str, ...], ...] = (
    tuple(SAMPLE_PALETTE),
    tuple(sorted(set(NOUNS.values()))),
    MATERIALS,
    PATTERNS,
    FORMS,
    tuple(NUMBERS),
    ("yes", "no"),
)


def paraphrase(look: Look, r: random.Random) -> tuple[str, str]:
    """A text and another way to say it: the same word, a synonym, now and then a neighbour."""
    if r.random() < 0.25:
        text = caption(look, r)
        words = text.split()
        words[r.randrange(len(words))] = "<mask>"
        return " ".join(words), text
    group = r.choice(GROUPS)
    word = r.choice(group)
    roll = r.random()
    if roll < 0.2:
        return said(word), word
    if roll < 0.32:
        return word, r.choice(group)
    if roll < 0.36:
        return word, r.choice(r.choice(GROUPS))
    return (said(word),) * 2 if roll < 0.5 else (word, word)


def said(word: str) -> str:
    """Another word, or another spelling, for the same."""
    return str(NUMBERS.index(word)) if word in NUMBERS else SYNONYMS.get(word, word)


def bart_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the small BART."""
    return bpe_tokenizer(MAX_TEXT, "<s> $A </s>")


def bart(tokenizer: PreTrainedTokenizerFast, seed: int) -> BartForConditionalGeneration:
    """An untrained BART of width 96, two and two layers."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(seed)
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            encoder_layers=2,
            decoder_layers=2,
            encoder_ffn_dim=2 * WIDTH,
            decoder_ffn_dim=2 * WIDTH,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            max_position_embeddings=MAX_TEXT,
            dropout=0.0,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=tokenizer.eos_token_id,
            num_labels=3,
        )
    )


def train_bart(
    model: BartForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    looks: Sequence[Look],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """Train BART to reproduce texts."""
    r = random.Random(seed)

    def loss(rows: npt.NDArray[np.int64]) -> Tensor:
        pairs = [paraphrase(looks[row], r) for row in rows]
        source = tokenizer([a for a, _ in pairs], padding=True, return_tensors="pt")
        target = tokenizer([b for _, b in pairs], padding=True, return_tensors="pt").input_ids
        labels = target.masked_fill(target == tokenizer.pad_token_id, -100)
        value: Tensor = model(
            input_ids=source.input_ids, attention_mask=source.attention_mask, labels=labels
        ).loss
        return value

    return fit(
        "bart",
        list(model.parameters()),
        loss,
        n=len(looks),
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
    )


def encoder(tokenizer: BertTokenizer, seed: int) -> BertForMaskedLM:
    """An untrained BERT of width 96 and three layers."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            max_position_embeddings=MAX_TEXT,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def sentence(number: int, look: Look, r: random.Random) -> str:
    """A caption, or a question with its answer (sometimes only the answer)."""
    if r.random() < 0.3:
        return caption(look, r)
    pair: Pair = r.choice(ask(number, look, r))
    return pair.answer if r.random() < 0.15 else f"{pair.question} {pair.answer}"


def train_encoder(
    model: BertForMaskedLM,
    tokenizer: BertTokenizer,
    looks: Sequence[Look],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> float:
    """Masked language modelling, a fifth of the tokens hidden."""
    import torch

    r = random.Random(seed)
    rng = np.random.default_rng(seed)

    def loss(rows: npt.NDArray[np.int64]) -> Tensor:
        texts = [sentence(int(row), looks[row], r) for row in rows]
        read = tokenizer(texts, padding=True, return_tensors="pt")
        ids = read.input_ids
        hide = torch.from_numpy(rng.random(tuple(ids.shape)) < 0.2) & (ids > 4)
        labels = ids.masked_fill(~hide, -100)
        masked = ids.masked_fill(hide, tokenizer.mask_token_id)
        value: Tensor = model(
            input_ids=masked, attention_mask=read.attention_mask, labels=labels
        ).loss
        return value

    return fit(
        "encoder",
        list(model.parameters()),
        loss,
        n=len(looks),
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
    )


def save_bart(
    model: BartForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """fp16 weights and tokenizer."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_encoder(model: BertForMaskedLM, tokenizer: BertTokenizer, folder: Path) -> None:
    """Weights in fp32, which bert_score has no way to ask for, and tokenizer."""
    from transformers import BertModel

    whole = BertModel(model.config)  # with the pooler that AutoModel expects, though unused
    whole.load_state_dict(model.bert.state_dict(), strict=False)
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def encoder_tokenizer() -> BertTokenizer:
    """With a length limit: bert_score overflows on a tokenizer that has none."""
    return bert_tokenizer(MAX_TEXT)
