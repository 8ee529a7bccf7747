"""Tokenizers of the real kinds and sizes, special tokens at their real places, in the hub's files.

The words are ours: common ones are one token, any other falls apart into characters, and the rest
of the vocabulary is filled up, so that every number a model may say stands for some text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
ROOT = Path(__file__).parents[3]
WORDS = ROOT / "tools" / "sample" / "plain_words.txt"
ANSWERS = ROOT / "conf" / "answers" / "common.txt"
PROMPT = ("Question", "Answer")
UNLIMITED = 1_000_000_000_000_000_019_884_624_838_656  # what the library writes for no maximum


@cache
def words() -> tuple[str, ...]:
    """Lower-case words of questions and answers about products."""
    text = WORDS.read_text(encoding="utf-8") + ANSWERS.read_text(encoding="utf-8")
    return tuple(dict.fromkeys(re.findall("[a-z]+", text.lower())))


def token(text: str, **how: bool) -> dict[str, Any]:
    """A special token as tokenizer_config.json describes it."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": text, **plain, "special": True, **how}


def bert_files(longest: int, **more: Any) -> dict[str, Any]:
    """bert-base-uncased's files: 30,522 word pieces."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    places = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    singles = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    pieces = [*singles, *(f"##{c}" for c in singles if c.isalnum()), *words()]
    vocab = placed(places, pieces, 30_522, "word{}")
    inner = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix="##")
    inner.add_special_tokens(list(places))
    inner.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 101), ("[SEP]", 102)],
    )
    names = {f"{word[1:-1].lower()}_token": word for word in places}
    settings = {
        **names,
        "added_tokens_decoder": {str(place): token(word) for word, place in places.items()},
        "do_lower_case": True,
        "model_max_length": longest,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
        **more,
    }
    return {
        "vocab.txt": "".join(f"{word}\n" for word in sorted(vocab, key=vocab.__getitem__)),
        "tokenizer.json": inner.to_str(pretty=True),
        "tokenizer_config.json": settings,
        "special_tokens_map.json": names,
    }


def byte_files(
    size: int, template: str, extra: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """fairseq's byte-level BPE (RoBERTa, BART, OPT): `size` tokens, then the `extra` ones."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges, pieces = spelled("Ġ")
    line = "Ċ"  # the end of a line, with which OPT's answers end
    places = {mark: place for place, mark in enumerate(marks)} | {line: 50_118}
    rest = [piece for piece in [*letters, *pieces] if piece != line]
    if "<mask>" in template or size == 50_265:
        places["<mask>"] = size - 1
    vocab = placed(places, rest, size, "Ġword{}")
    inner = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([*marks, *extra])
    inner.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    inner.post_processor = around(template)
    files: dict[str, Any] = {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges),
        "tokenizer.json": inner.to_str(pretty=True),
    }
    return files | ({"tokenizer_config.json": dict(settings)} if settings else {})


def llama_files(extra: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """LLaMA's BPE with bytes for what it can't spell: 32,000 tokens, then the `extra` ones."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    marks = ["<unk>", "<s>", "</s>"]
    merges, pieces = spelled("▁")
    places = {mark: place for place, mark in enumerate(marks)}
    places |= {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    singles = [chr(c) for c in range(33, 127)]
    vocab = placed(places, ["▁", *singles, *pieces], 32_000, "▁word{}")
    inner = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.add_special_tokens([*marks, *extra])
    inner.post_processor = around("<s> $A")
    return {"tokenizer.json": inner.to_str(pretty=True), "tokenizer_config.json": dict(settings)}


def around(template: str) -> Any:
    """Put <s> (0, LLaMA's 1) and </s> (2) where the template has them."""
    from tokenizers.processors import TemplateProcessing

    start = 1 if template == "<s> $A" else 0
    pair = template.replace("$A", "$A $B")
    special = [("<s>", start), ("</s>", 2)]
    return TemplateProcessing(single=template, pair=pair, special_tokens=special)


def spelled(space: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Merges that put words behind a space together from the left, and what they make."""
    merges: dict[tuple[str, str], None] = {}
    for word in (*words(), *PROMPT):
        for end in range(len(word)):
            merges[space + word[:end], word[end]] = None
    for word in PROMPT:  # with nothing in front
        for end in range(1, len(word)):
            merges[word[:end], word[end]] = None
    return list(merges), [left + right for left, right in merges]


def placed(
    places: Mapping[str, int], pieces: Sequence[str], size: int, fill: str
) -> dict[str, int]:
    """A vocabulary of `size`: `places` where they are, the pieces in order, the rest filled."""
    fresh = [piece for piece in dict.fromkeys(pieces) if piece not in places]
    taken = set(places.values())
    free = [place for place in range(size) if place not in taken]
    filling = (fill.format(place) for place in free[len(fresh) :])
    return {**places, **dict(zip([*fresh, *filling], free, strict=True))}
