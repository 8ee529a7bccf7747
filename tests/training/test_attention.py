"""Shared and masked attention against the plain library path: loss and LoRA gradients."""

import pytest
import torch

from abo_vqa.models.blip import absorbed
from abo_vqa.models.blip.attention import answer_logits, cross_attention, encode_questions
from abo_vqa.models.blip.vision import vision_forward
from abo_vqa.training.batch import IGNORED, pad_tokens
from abo_vqa.training.families.blip import vision_outputs


@pytest.fixture(scope="module")
def lora():
    """A tiny BLIP with LoRA on query and value, dropout off, LoRA's B not zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import BlipConfig, BlipForQuestionAnswering

    torch.manual_seed(0)
    text = {"vocab_size": 50, "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 32,
            "max_position_embeddings": 32, "bos_token_id": 48, "sep_token_id": 49,
            "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "image_size": 32, "patch_size": 8,
              "initializer_range": 0.02}  # fmt: skip
    model = BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=vision))
    targets = LoraConfig(r=4, lora_dropout=0.0, target_modules=["query", "value"])
    wrapped = get_peft_model(model, targets)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return wrapped


QUESTIONS = [[5, 6, 7], [5, 8, 9, 10, 11], [12, 6], [13, 14, 15, 16], [5, 6], [7]]
ANSWERS = [[48, 20, 49], [48, 21, 22, 49], [48, 23, 49], [48, 24, 49], [48, 25, 26, 27, 49],
           [48, 20, 49]]  # fmt: skip


def padded(sequences):
    """Lists of tokens as ids and mask, as training pads them."""
    return pad_tokens([torch.tensor(tokens) for tokens in sequences], 0)


def plain(model, pictures, which):
    """The library's way: one row at a time, so that nothing is padded."""
    blip, total, tokens = model.get_base_model(), 0.0, 0
    for question, answer, place in zip(QUESTIONS, ANSWERS, which, strict=True):
        states = blip.text_encoder(
            input_ids=torch.tensor([question]), encoder_hidden_states=pictures[place : place + 1]
        ).last_hidden_state
        logits = blip.text_decoder(
            input_ids=torch.tensor([answer[:-1]]), encoder_hidden_states=states, use_cache=False
        ).logits
        total = total + torch.nn.functional.cross_entropy(
            logits[0], torch.tensor(answer[1:]), reduction="sum"
        )
        tokens += len(answer) - 1
    return total / tokens


def shared(model, pictures, which):
    """Ours: everything in one padded batch."""
    blip = model.get_base_model()
    ids, mask = padded(QUESTIONS)
    answers, known = padded(ANSWERS)
    labels = answers[:, 1:].masked_fill(known[:, 1:] == 0, IGNORED)
    states = encode_questions(blip.text_encoder, ids, mask, pictures, torch.tensor(which))
    logits = answer_logits(blip.text_decoder, answers[:, :-1], states, mask)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
    )


@pytest.mark.parametrize(
    "which", [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 1], [1, 0, 0, 1, 2, 1], [0, 1, 2, 3, 4, 5]]
)
def test_loss_and_gradients_equal_the_plain_path(lora, which):
    lora.train()
    pixels = torch.randn(max(which) + 1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pictures = lora.get_base_model().vision_model(pixels).last_hidden_state
    grads = {}
    for path in (plain, shared):
        lora.zero_grad()
        loss = path(lora, pictures, which)
        loss.backward()
        grads[path] = {n: p.grad.clone() for n, p in lora.named_parameters() if p.requires_grad}
        grads[path]["loss"] = loss.detach()
    for name, expected in grads[plain].items():
        scale = float(expected.abs().max())
        assert scale > 0, name
        assert float((grads[shared][name] - expected).abs().max()) <= 1e-5 * scale, name


def test_the_picture_and_the_padding_mask_matter(lora):
    """What the equalities above would be worth nothing without."""
    pictures = torch.randn(2, 17, 32, generator=torch.Generator().manual_seed(2))
    blip = lora.get_base_model()
    ids, mask = padded(QUESTIONS[:2])
    which = torch.tensor([0, 1])
    with torch.no_grad():
        states = encode_questions(blip.text_encoder, ids, mask, pictures, which)
        swapped = encode_questions(blip.text_encoder, ids, mask, pictures.flip(0), which)
        unmasked = encode_questions(blip.text_encoder, ids, torch.ones_like(mask), pictures, which)
    assert float((states - swapped).abs().max()) > 1e-3
    assert float((states - unmasked)[0, :3].abs().max()) > 1e-3


@pytest.mark.parametrize("training", [False, True])
def test_training_computes_vision_outputs_as_answering_does(training):
    """To the last bit, with LoRA on the tower; attention's dropout included while it trains."""
    from peft import LoraConfig, get_peft_model
    from transformers import BlipConfig, BlipForQuestionAnswering

    torch.manual_seed(4)
    body = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    body |= {"num_attention_heads": 2, "attention_dropout": 0.3, "initializer_range": 0.3}
    text = {**body, "vocab_size": 50, "encoder_hidden_size": 64}
    vision = {**body, "image_size": 96, "patch_size": 8}
    model = BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=vision))
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["qkv"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    wrapped.train(training)
    pixels = torch.randn(3, 3, 96, 96)
    outputs = []
    for compute in (vision_outputs, lambda blip, images: vision_forward(blip.vision_model, images)):
        torch.manual_seed(5)
        with torch.no_grad():
            outputs.append(compute(wrapped.get_base_model(), pixels))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("count", [1, 3])
def test_absorbed_attention_where_it_is_cheaper(count, monkeypatch):
    """257 tokens a picture and few words: `cheapest_cross_attention` takes the other order
    of the sums, which gives what the plain order and the library give."""
    from transformers import BlipConfig, BlipForQuestionAnswering

    torch.manual_seed(3)
    body = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2}  # fmt: skip
    text = {**body, "vocab_size": 50, "encoder_hidden_size": 64, "max_position_embeddings": 32}
    config = BlipConfig(text_config=text, vision_config={**body, "image_size": 32})
    encoder = BlipForQuestionAnswering(config).eval().text_encoder
    for name, parameter in encoder.named_parameters():  # biases are zero in a fresh model
        spread = 0.5 if name.endswith("bias") else 2 / parameter.shape[-1] ** 0.5
        torch.nn.init.normal_(parameter, std=spread)
    pictures = torch.randn(2, 257, 64)
    asked = QUESTIONS[: 2 * count]
    ids, mask = padded(asked)
    which = torch.arange(2).repeat_interleave(count)
    taken = []
    form = absorbed.absorbed_cross_attention

    def counted(*given):
        taken.append(given)
        return form(*given)

    monkeypatch.setattr(absorbed, "absorbed_cross_attention", counted)
    with torch.no_grad():
        cheap = encode_questions(
            encoder, ids, mask, pictures, which, absorbed.cheapest_cross_attention
        )
        assert len(taken) == 2  # once a layer
        plain = encode_questions(encoder, ids, mask, pictures, which, cross_attention)
        assert len(taken) == 2
        for row, (question, place) in enumerate(zip(asked, which, strict=True)):
            library = encoder(
                input_ids=torch.tensor([question]),
                encoder_hidden_states=pictures[place : place + 1],
            ).last_hidden_state[0]
            torch.testing.assert_close(cheap[row, : len(question)], library, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(plain[row, : len(question)], library, rtol=1e-4, atol=1e-4)


def test_a_mask_on_the_cpu_saves_a_gpu_the_wait(gpu):
    """Whether anything is padding is decided without asking the card."""
    from abo_vqa.models.blip.attention import padding_mask

    card = torch.device("cuda", 0)
    assert padding_mask(torch.ones(2, 3), card) is None
    visible = padding_mask(padded(QUESTIONS[:2])[1], card)
    assert visible.device == card
    assert visible[:, 0, 0].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
