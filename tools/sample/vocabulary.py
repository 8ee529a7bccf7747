"""Small tokenizers that can encode any text.

Every word of the catalogue, of both kinds of questions and of a list of plain English is one token;
any other word is split into characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sample.pretraining import FORMS, NOUNS, SYNONYMS, WORDINGS, plural
from sample.studio import MATERIALS, PATTERNS, SAMPLE_PALETTE
from sample.words import BRANDS, KINDS, STYLES, TRADE_COLORS

if TYPE_CHECKING:
    from transformers import BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;?!'\"-–/()&%+#*<>=_@$"

# Plain English that questions about products are made of.
PLAIN = (Path(__file__).parent / "plain_words.txt").read_text(encoding="utf-8").split()


def words() -> list[str]:
    """All words of the vocabulary, lower case, sorted."""
    text = list(PLAIN)
    text += [*SYNONYMS, *SYNONYMS.values(), *NOUNS.values(), *FORMS, *MATERIALS, *PATTERNS]
    text += [*SAMPLE_PALETTE, *TRADE_COLORS.values(), *BRANDS, *STYLES]
    for kind in KINDS.values():
        text += [kind.noun, *kind.keywords]
    text += [
        w.format(noun="", plural="", value="") for pair in WORDINGS.values() for w in sum(pair, ())
    ]
    distinct = set(re.findall(r"[a-z]+", " ".join(text).lower()))
    nouns = set(NOUNS.values()) | {SYNONYMS.get(n, n) for n in NOUNS.values()}
    return sorted(distinct | {plural(noun) for noun in nouns} | {str(n) for n in range(21)})


def wordpieces(first: list[str], last: list[str]) -> dict[str, int]:
    """Token -> id of a WordPiece vocabulary, with special tokens before and after."""
    singles = [c for c in CHARACTERS if c not in set(words())]
    pieces = [*first, *singles, *words(), *(f"##{c}" for c in CHARACTERS), *last]
    return {piece: number for number, piece in enumerate(pieces)}


def bert_tokenizer(max_length: int, extra: tuple[str, ...] = ()) -> BertTokenizer:
    """BERT's tokenizer over the small vocabulary; `extra` special tokens get the last ids."""
    from transformers import BertTokenizer

    vocab = wordpieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], list(extra))
    return BertTokenizer(
        vocab=vocab, model_max_length=max_length, additional_special_tokens=list(extra)
    )


def clip_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """Start … end, the end token has the highest id: open_clip pools the text features there."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocab = wordpieces(["<pad>", "<unk>"], ["<start>", "<end>"])
    core = Tokenizer(models.WordPiece(vocab, unk_token="<unk>"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##")
    core.post_processor = TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", vocab["<start>"]), ("<end>", vocab["<end>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=max_length,
    )


def bpe_tokenizer(
    max_length: int, template: str, special: tuple[str, ...] = (), padding: str = "right"
) -> PreTrainedTokenizerFast:
    """Byte-level BPE (OPT, LLaMA, BART) that spells any text; `template` places <s> and </s>."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *special]
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,  # never reached: merging stops when every word is one token
        min_frequency=1,
        special_tokens=marks,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(words(), trainer)
    core.post_processor = TemplateProcessing(
        single=template, special_tokens=[(m, core.token_to_id(m)) for m in ("<s>", "</s>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        additional_special_tokens=list(special),
        padding_side=padding,
        model_max_length=max_length,
    )


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of many texts, few of them different."""
    different = sorted(set(texts))
    ids = dict(zip(different, tokenizer(different).input_ids, strict=True))
    return [ids[text] for text in texts]
