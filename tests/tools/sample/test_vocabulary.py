"""Small tokenizers: known words are one token, every text can be written."""

import pytest
from sample.pretraining import SYNONYMS, WORDINGS, ask, caption, draw_looks
from sample.vocabulary import bert_tokenizer, bpe_tokenizer, clip_tokenizer, words
from sample.words import KINDS

TYPED = "Is the Zyzzyva-brand mug (2nd shelf) dishwasher-safe & €9.99?"


@pytest.fixture(scope="module")
def tokenizers():
    return {
        "bert": bert_tokenizer(64, ("[DEC]", "[ENC]")),
        "clip": clip_tokenizer(40),
        "bpe": bpe_tokenizer(64, "<s> $A </s>", ("<image>",)),
    }


@pytest.mark.parametrize("name", ["bert", "clip", "bpe"])
def test_words_are_single_tokens(tokenizers, name):
    for word in words():
        assert len(tokenizers[name].tokenize(word)) == 1, word


def test_the_vocabulary_covers_catalogue_and_questions():
    known = set(words())
    nouns = {kind.noun.lower() for kind in KINDS.values()} - {"phone case"}
    assert nouns | set(SYNONYMS) | set(SYNONYMS.values()) <= known
    asked = "what color is the how many are there is this a made of pattern material product type"
    assert set(asked.split()) <= known


@pytest.mark.parametrize("name", ["bert", "clip", "bpe"])
def test_any_latin_text_is_spelled_and_read_back(tokenizers, name):
    tokenizer = tokenizers[name]
    typed = TYPED.replace("€", "")
    ids = tokenizer(typed).input_ids
    assert tokenizer.unk_token_id not in ids
    back = tokenizer.decode(ids, skip_special_tokens=True)
    assert back.replace(" ", "") == typed.lower().replace(" ", "")


def test_byte_level_spells_everything(tokenizers):
    ids = tokenizers["bpe"]("€ 商品").input_ids
    assert "商品" in tokenizers["bpe"].decode(ids, skip_special_tokens=True)


def test_clips_end_is_the_highest_id_and_padding_zero(tokenizers):
    ids = tokenizers["clip"]("a red mug", padding="max_length", max_length=8).input_ids
    assert max(ids) == ids[4] == tokenizers["clip"].eos_token_id
    assert ids[5:] == [0, 0, 0]


def test_pretraining_questions_are_short_and_answers_single_words(tokenizers):
    import random

    r = random.Random(0)
    for number, look in enumerate(draw_looks(200, 1)):
        for pair in ask(number, look, r):
            assert len(tokenizers["bert"](pair.question).input_ids) < 20
            assert len(tokenizers["bert"].tokenize(pair.answer)) == 1
        assert len(tokenizers["clip"](caption(look, r)).input_ids) < 12
    assert all(terse and talkative for terse, talkative in WORDINGS.values())
