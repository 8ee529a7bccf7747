"""BLIP: the traps of the stock library, shared and absorbed attention, adapters, ranking."""

from types import SimpleNamespace

import pytest
import torch

from abo_vqa.models.blip import absorbed
from abo_vqa.models.blip.attention import cross_attention
from abo_vqa.models.blip.vision import vision_forward
from tests.support import models as tiny


@pytest.fixture(scope="module")
def model(load):
    return load("blip")


def test_stock_batches_answer_differently(model, rows) -> None:
    """Why we don't call `generate` on padded batches: it ignores the question's padding.

    If this fails, transformers applies the mask now, and our own forward may be retired.
    """
    inputs = model.processor(
        images=rows.images, text=rows.questions, padding=True, return_tensors="pt"
    )
    tokens = model.model.generate(**inputs, max_new_tokens=10, do_sample=False)
    stock = [t.strip() for t in model.processor.batch_decode(tokens, skip_special_tokens=True)]
    ours = [answer.text for answer in model.answer(rows.images, rows.questions)]
    assert stock != ours


def test_fused_vision_equals_the_librarys(model, rows) -> None:
    pixels = model.processor.image_processor(
        images=[rows.images[0], rows.images[-1]], return_tensors="pt"
    )
    with torch.no_grad():
        wanted = model.model.vision_model(pixels["pixel_values"]).last_hidden_state
        seen = vision_forward(model.model.vision_model, pixels["pixel_values"])
    torch.testing.assert_close(seen, wanted, rtol=1e-5, atol=1e-6)
    assert (seen[0] - seen[1]).abs().max() > 1e-2  # pictures matter


def attention_of(heads: int, width: int, wide: int) -> SimpleNamespace:
    """A cross-attention with random weights and biases, as transformers builds it."""
    from transformers import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextAttention

    config = BlipTextConfig(
        hidden_size=width, num_attention_heads=heads, encoder_hidden_size=wide, hidden_act="gelu"
    )
    attention = BlipTextAttention(config, is_cross_attention=True).eval()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return attention


@pytest.mark.parametrize(("count", "length"), [(1, 9), (3, 11), (3, 1)])
def test_absorbed_equals_projected(count: int, length: int) -> None:
    torch.manual_seed(0)
    attention = attention_of(heads=4, width=32, wide=48)
    pictures = torch.randn(5, 50, 48)
    hidden = torch.randn(5 * count, length, 32)
    which = torch.arange(5).repeat_interleave(count)
    with torch.no_grad():
        projected = cross_attention(attention, hidden, pictures, which, count)
        form = absorbed.absorbed_cross_attention(attention, hidden, pictures, count)
    torch.testing.assert_close(form, projected, rtol=1e-4, atol=1e-5)


def test_the_cheaper_order_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLIP-base: absorbed for three short questions, projected for many long ones."""
    attention = attention_of(heads=12, width=768, wide=768)
    taken = []
    monkeypatch.setattr(absorbed, "cross_attention", lambda *_: taken.append("projected"))
    monkeypatch.setattr(absorbed, "absorbed_cross_attention", lambda *_: taken.append("absorbed"))
    for count, length in ((3, 10), (1, 12), (12, 12)):
        hidden = torch.empty(2 * count, length, 768, device="meta")
        which = torch.arange(2).repeat_interleave(count)
        pictures = torch.empty(2, 577, 768, device="meta")
        absorbed.cheapest_cross_attention(attention, hidden, pictures, which, count)
    assert taken == ["absorbed", "absorbed", "projected"]


@pytest.mark.parametrize("way", ["projected", "absorbed"])
def test_both_orders_answer_alike(model, rows, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model.answer(rows.images, rows.questions)
    if way == "projected":
        monkeypatch.setattr("abo_vqa.models.blip.model.cheapest_cross_attention", cross_attention)
    else:
        monkeypatch.setattr(
            "abo_vqa.models.blip.model.cheapest_cross_attention",
            lambda a, h, p, w, n: absorbed.absorbed_cross_attention(a, h, p, n),
        )
    answers = model.answer(rows.images, rows.questions)
    assert [a.text for a in answers] == [a.text for a in expected]


def test_uneven_numbers_of_questions(model, rows) -> None:
    """Pictures with one, two and four questions in one call, in no order."""
    chosen = [0, 5, 8, 9, 10, 11, 14, 4, 20]
    together = model.answer([rows.images[i] for i in chosen], [rows.questions[i] for i in chosen])
    alone = [model.answer([rows.images[i]], [rows.questions[i]])[0] for i in chosen]
    assert [a.text for a in together] == [a.text for a in alone]


def test_rank_is_the_likelihood_of_the_library(model, rows) -> None:
    """Sum of log-probabilities from the library's loss, one choice at a time."""
    choices = ["black", "round table", "two", "unheard"]
    ranked = model.rank(rows.images[:5], rows.questions[:5], [choices] * 5)
    plain = model.model
    start, end = plain.decoder_start_token_id, plain.config.text_config.sep_token_id
    for image, question, scores in zip(rows.images, rows.questions, ranked, strict=False):
        inputs = model.processor(images=image, text=question, return_tensors="pt")
        for choice, score in zip(choices, scores, strict=True):
            words = model.processor.tokenizer(choice, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[start, *words, end]])
            with torch.no_grad():
                # The library's label of a position is the token there, shifted by one inside.
                seen = plain.vision_model(inputs["pixel_values"]).last_hidden_state
                states = plain.text_encoder(
                    inputs["input_ids"], encoder_hidden_states=seen
                ).last_hidden_state
                logits = plain.text_decoder(ids, encoder_hidden_states=states).logits[0, :-1]
            log_p = logits.log_softmax(-1).gather(1, ids[0, 1:, None]).sum()
            assert score == pytest.approx(float(log_p), rel=1e-4)


def test_the_likeliest_choice_is_the_answer(model, rows) -> None:
    """Among choices that include the greedy answer's one word, likelihood picks the best."""
    answers = model.answer(rows.images, rows.questions)
    ranked = model.rank(rows.images, rows.questions, [tiny.ANSWERS] * len(answers))
    for answer, scores in zip(answers, ranked, strict=True):
        best = max(scores)
        if answer.text in tiny.ANSWERS:
            at = tiny.ANSWERS.index(answer.text)
            assert torch.tensor(scores[at]).exp().item() == pytest.approx(answer.confidence, 1e-3)
        assert torch.tensor(best).exp().item() <= 1.0


def test_adapter_is_merged(folders, load, rows, tmp_path) -> None:
    """With a LoRA adapter the answers are the adapted library model's, one by one."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import BlipForQuestionAnswering, BlipProcessor

    base = BlipForQuestionAnswering.from_pretrained(folders["blip"])
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"]))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    model = load("blip", adapter=tmp_path / "adapter")
    said = [a.text for a in model.answer(rows.images, rows.questions)]

    plain = BlipForQuestionAnswering.from_pretrained(folders["blip"])
    plain = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    processor = BlipProcessor.from_pretrained(folders["blip"])
    expected = []
    for image, question in zip(rows.images, rows.questions, strict=True):
        inputs = processor(images=image, text=question, return_tensors="pt")
        tokens = plain.generate(**inputs, max_new_tokens=10, do_sample=False)
        expected.append(processor.decode(tokens[0], skip_special_tokens=True).strip())
    assert said == expected
    assert said != [a.text for a in load("blip").answer(rows.images, rows.questions)]
