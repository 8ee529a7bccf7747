"""Small tokenizers of the real kinds: byte-level BPE (GPT-2, Qwen2, Llama 3) and Gemma's."""

from __future__ import annotations

import json
import string
from typing import Any

from tests.support.models import ANSWERS, WORDS

_LETTERS = string.digits + string.ascii_letters + string.punctuation


def byte_level_tokenizer(
    kind: str,
    specials: tuple[str, ...],
    *,
    bos: str | None,
    pad: str,
    add_bos: bool = False,
    named: dict[str, str] | None = None,
) -> Any:
    """A byte-level BPE tokenizer; the special tokens come after the words, as in the real ones.

    Args:
        kind: gpt2, llama3 or qwen2: the class, and with it how text is divided into words.
        specials: further special tokens.
        bos: the start token.
        pad: the pad token.
        add_bos: whether the tokenizer puts the start token in front of every text.
        named: special tokens that become attributes of the tokenizer.
    """
    from tokenizers import processors
    from transformers import GPT2Tokenizer, Qwen2Tokenizer

    vocab, merges = _train("Ġ", [*_LETTERS, "Ġ", "Ċ"])
    options = {"bos_token": bos, "eos_token": "<|endoftext|>", "pad_token": pad, **(named or {})}
    if kind == "qwen2":
        tokenizer: Any = Qwen2Tokenizer(vocab=vocab, merges=merges, **options)
    else:
        tokenizer = GPT2Tokenizer(vocab=vocab, merges=merges, **options)
    tokenizer.add_special_tokens({"extra_special_tokens": list(specials)})
    if add_bos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, tokenizer.bos_token_id)],
        )
    return tokenizer


def gemma_tokenizer(specials: tuple[str, ...], named: dict[str, str], *, add_bos: bool) -> Any:
    """Gemma's tokenizer: spaces are a letter, line breaks are tokens, the pad token is 0.

    Args:
        specials: further special tokens.
        named: special tokens that become attributes of the tokenizer.
        add_bos: whether the tokenizer puts the start token in front of every text.
    """
    from transformers import GemmaTokenizer

    letters = [*_LETTERS, "▁", "\n"]
    vocab, merges = _train("▁", letters, ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\n\n"))
    tokenizer = GemmaTokenizer(vocab=vocab, merges=merges, add_bos_token=add_bos, **named)
    tokenizer.add_special_tokens({"extra_special_tokens": list(specials)})
    return tokenizer


def token_id(tokenizer: Any, token: str) -> int:
    """The id of a token that the tokenizer must have."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert found is not None, token
    assert tokenizer.convert_ids_to_tokens(found) == token
    return int(found)


def _train(
    space: str, letters: list[str], specials: tuple[str, ...] = ()
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary in which each word is a token, at the start of a text and after a space."""
    from tokenizers import Tokenizer, models, trainers

    words = [word for word in (*WORDS, *ANSWERS) if word.isalpha()]
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=0, initial_alphabet=letters, show_progress=False
    )
    for_training = [text for word in words for text in (word, space + word)]
    tokenizer.train_from_iterator(for_training, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*specials, *tokens]))}
    return vocab, [tuple(merge) for merge in model["merges"]]
