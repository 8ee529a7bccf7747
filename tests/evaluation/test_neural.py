"""BERTScore and BARTScore: equal to the libraries pair by pair, whatever shares a batch."""

import random

import pytest

from abo_vqa.core.config import ScorerConfig, ScorersConfig
from abo_vqa.core.errors import UserError
from abo_vqa.evaluation.bartscore import BartScore
from abo_vqa.evaluation.bertscore import BertScore
from abo_vqa.evaluation.pair_scores import score_pairs
from tests.support.scorers import PAIRS, WORDS


def test_roberta_reads_a_space_before_the_first_word(roberta):
    tokenizer = BertScore(roberta).tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("red")["input_ids"])[1] == "Ġred"
    assert tokenizer.model_max_length == 38


def test_bertscore_is_the_librarys_pair_by_pair(roberta):
    from collections import defaultdict

    from bert_score.utils import bert_cos_score_idf, get_model

    from abo_vqa.data.normalise import normalise_lossy

    ours = BertScore(roberta)
    weights = defaultdict(lambda: 1.0, {ours.tokenizer.cls_token_id: 0.0,
                                        ours.tokenizer.sep_token_id: 0.0})  # fmt: skip
    model = get_model(roberta.path, roberta.layer)
    found = ours.score(PAIRS)
    for said, wanted in PAIRS:
        hypothesis, reference = normalise_lossy(said), normalise_lossy(wanted)
        if hypothesis and reference:
            alone = bert_cos_score_idf(model, [reference], [hypothesis], ours.tokenizer,
                                       weights, device="cpu")[0].tolist()  # fmt: skip
            assert found[said, wanted] == pytest.approx(alone, abs=1e-5)


def test_scores_do_not_depend_on_company(roberta, bart):
    mixed = random.Random(0).sample(PAIRS, len(PAIRS))
    for scorer in (BertScore(roberta), BartScore(bart)):
        together = scorer.score(mixed)
        for pair in PAIRS[:20]:
            assert scorer.score([pair])[pair] == pytest.approx(together[pair], abs=1e-5)


def test_bertscore_of_nothing_is_0_and_of_itself_1(roberta):
    scorer = BertScore(roberta)
    found = scorer.score([("", "red"), ("red", "the"), ("", ""), ("red", "The red")])
    assert found["", "red"] == found["red", "the"] == found["", ""] == (0, 0, 0)
    assert found["red", "The red"] == pytest.approx((1, 1, 1), abs=1e-5)


def test_baseline_is_seeded_and_ignores_order(roberta):
    scorer = BertScore(roberta)
    assert scorer.baseline(WORDS) == scorer.baseline(WORDS[::-1]) < 1
    assert scorer.baseline(["red", "red"]) == 0


def test_the_published_baseline_is_used_where_there_is_one(roberta):
    scorer = BertScore(roberta)
    scorer.scorer, scorer.layer = ScorerConfig(path="roberta-large"), 17
    assert scorer.baseline(WORDS) == pytest.approx(0.83122575)


def test_signatures_say_encoder_layer_baseline_and_empty_texts(roberta, bart):
    names = ("bertscore_f1", "bertscore_f1_rescaled", "bartscore")
    scorers = ScorersConfig(bertscore=roberta, bartscore=bart)
    scores = score_pairs(PAIRS, names, references=WORDS, scorers=scorers)
    base = BertScore(roberta).baseline(WORDS)
    raw, rescaled = (scores.values[name] for name in names[:2])
    assert rescaled == pytest.approx((raw - base) / (1 - base))
    said = scores.signature
    assert f"{roberta.path}, layer 2, no idf" in said["bertscore_f1"]
    assert f"(F1 - {base:.6f})" in said["bertscore_f1_rescaled"]
    assert "random pairs of reference answers" in said["bertscore_f1_rescaled"]
    assert "empty ones too" in said["bartscore"]


def test_bartscore_is_minus_the_models_loss_one_at_a_time(bart):
    scorer = BartScore(bart)
    pairs = [*PAIRS, ("", "red"), ("red", ""), ("", "")]
    found = scorer.score(pairs)
    for said, wanted in pairs:
        source = scorer.tokenizer(said, return_tensors="pt")
        labels = scorer.tokenizer(wanted, return_tensors="pt")["input_ids"]
        loss = scorer.model(input_ids=source["input_ids"], labels=labels).loss.item()
        assert found[said, wanted] == pytest.approx(-loss, abs=1e-5)
        assert found[said, wanted] < 0


def test_a_missing_scorer_or_layer_is_one_clear_message(tmp_path, roberta):
    with pytest.raises(UserError, match="can't load"):
        BertScore(ScorerConfig(path=str(tmp_path)))
    with pytest.raises(UserError, match=r"layer is 9, but .* has 3 layers"):
        BertScore(roberta.model_copy(update={"layer": 9}))


@pytest.mark.parametrize("room", [1, 2])
def test_memory_that_runs_out_halves_the_batch(roberta, bart, monkeypatch, room):
    import torch

    scorers = [BertScore(roberta), BartScore(bart)]
    whole = [scorer.score(PAIRS) for scorer in scorers]
    for scorer, kept in zip(scorers, whole, strict=True):
        forward, refused = scorer.model.forward, []

        def small(*args, forward=forward, refused=refused, **options):
            given = options.get("labels", args[0] if args else None)
            if len(given) > room:
                refused.append(len(given))
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
            return forward(*args, **options)

        monkeypatch.setattr(scorer.model, "forward", small)
        found = scorer.score(PAIRS)
        assert refused
        assert list(found) == list(kept)
        for pair in PAIRS:
            assert found[pair] == pytest.approx(kept[pair], abs=1e-5)


def test_memory_too_small_for_one_text_is_told(roberta, monkeypatch):
    import torch

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")

    scorer = BertScore(roberta)
    monkeypatch.setattr(scorer.model, "forward", full)
    with pytest.raises(UserError, match="scoring a single pair"):
        scorer.score(PAIRS)


def test_vectors_that_fill_memory_are_kept_for_fewer_pairs(roberta, bart, monkeypatch):
    """Halving a batch frees nothing that was kept of the batches before it."""
    import torch

    for scorer in (BertScore(roberta), BartScore(bart)):
        kept = scorer.score(PAIRS)
        encode, runs = scorer.encode, []

        def narrow(tokens, texts, encode=encode, runs=runs):
            texts = list(texts)
            if len(texts) > 30:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
            runs.append(len(texts))
            return encode(tokens, texts)

        monkeypatch.setattr(scorer, "encode", narrow)
        found = scorer.score(PAIRS)
        assert len(runs) > 1
        for pair in PAIRS:
            assert found[pair] == pytest.approx(kept[pair], abs=1e-5)
