"""Fixtures: tiny scorers of the neural metrics, with random weights, and what to score."""

from pathlib import Path

import pytest
import torch

from abo_vqa.core.config import ScorerConfig

WORDS = ["red", "blue chair", "two", "red two", "a", "a blue red chair two", "chair"]
PAIRS = [(a, b) for a in WORDS for b in WORDS]


def byte_pairs(folder):
    """RoBERTa's kind of tokenizer, trained on a few words; the files say no maximum length."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import RobertaTokenizer

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    inner.train_from_iterator(["red chair red blue two red chair blue two red"] * 9, trainer)
    files = inner.model.save(str(folder))
    merges = [tuple(line.split()) for line in Path(files[1]).read_text().splitlines()[1:]]
    tokenizer = RobertaTokenizer(vocab=inner.get_vocab(), merges=merges)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="session")
def roberta(tmp_path_factory):
    from transformers import RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("roberta")
    size = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(byte_pairs(folder)), num_hidden_layers=3,
                           max_position_embeddings=40, initializer_range=0.4, **size)  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    return ScorerConfig(path=str(folder), layer=2, batch_size=3)


@pytest.fixture(scope="session")
def bart(tmp_path_factory):
    from transformers import BartConfig, BartForConditionalGeneration

    folder = tmp_path_factory.mktemp("bart")
    size = {"d_model": 32}
    for side in ("encoder", "decoder"):
        size |= {f"{side}_layers": 2, f"{side}_ffn_dim": 64, f"{side}_attention_heads": 2}
    torch.manual_seed(0)
    config = BartConfig(vocab_size=len(byte_pairs(folder)), max_position_embeddings=40,
                        init_std=0.4, pad_token_id=1, bos_token_id=0, eos_token_id=2,
                        decoder_start_token_id=2, **size)  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(folder)
    return ScorerConfig(path=str(folder), batch_size=3)
