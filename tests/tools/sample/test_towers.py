"""One trained tower serves several classes: the copies must be exact where they claim to be."""

import numpy as np
import pytest
import torch
from sample import blip, blip2, clip, llava, vilt
from sample.pretraining import draw_chunk, draw_looks
from sample.training import ATTRIBUTES, attribute_labels, batches, pixels
from sample.trunk import blip_tower, last_hidden, moved
from sample.vocabulary import bert_tokenizer


@pytest.fixture(scope="module")
def images():
    return draw_chunk(draw_looks(3, 0))


@pytest.fixture(scope="module")
def tower():
    model = blip_tower(0).eval()
    with torch.no_grad():  # positions and biases that a wrong copy would show
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def test_clips_image_tower_is_the_tower(tower, images):
    model = clip.clip(0).eval()
    clip.adopt(model, tower)
    wanted = tower(pixels(images)).last_hidden_state[:, 0] @ model.visual.proj
    assert torch.allclose(model.visual(pixels(images)), wanted, atol=1e-4)


@torch.no_grad()
def test_blip2_reads_the_same_tokens(tower, images):
    model = blip2.blip2(blip2.opt_tokenizer(), 0).eval()
    model.vision_model.load_state_dict(tower.state_dict())
    x = pixels(images)
    wanted = tower(x).last_hidden_state
    assert torch.allclose(model.vision_model(pixel_values=x).last_hidden_state, wanted, atol=1e-5)


@torch.no_grad()
def test_vilts_patches_allow_for_its_own_normalisation(tower, images):
    model = vilt.vilt(bert_tokenizer(40), ["yes", "no"], 0).eval()
    vilt.adopt(model, tower)
    own = model.vilt.embeddings.patch_embeddings(pixels(images, vilt.HALF, vilt.HALF))
    assert torch.allclose(own, tower.embeddings.patch_embedding(pixels(images)), atol=1e-4)


@torch.no_grad()
def test_vilts_plain_embedding_is_the_models_own(images):
    tokenizer = bert_tokenizer(40)
    model = vilt.vilt(tokenizer, ["yes", "no"], 0).eval()
    ids = torch.tensor([tokenizer("What is this?").input_ids] * len(images))
    x = pixels(images, vilt.HALF, vilt.HALF)
    mask = torch.ones(len(images), 64, 64)
    own = model(input_ids=ids, pixel_values=x, pixel_mask=mask).logits
    ones = torch.ones(len(images), 65)
    plain = model(input_ids=ids, image_embeds=vilt.embed(model, x), pixel_mask=ones).logits
    assert torch.allclose(own, plain, atol=1e-5)


@torch.no_grad()
def test_llavas_layers_are_the_towers(tower):
    model = llava.llava(llava.llama_tokenizer(), 0).eval()
    llava.adopt(model, tower)
    layers = next(m for n, m in model.model.vision_tower.named_modules() if n.endswith("layers"))
    state = torch.randn(2, 65, 128)
    own = layers[1](state, attention_mask=None)
    own = own[0] if isinstance(own, tuple) else own
    wanted = tower.encoder.layers[1](state)
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    assert torch.allclose(own, wanted, atol=1e-4)


@torch.no_grad()
def test_the_tower_sees(images):
    """BLIP's own default would initialise it blind."""
    tokens = last_hidden(blip_tower(0).eval())(pixels(images))
    assert (tokens[0] - tokens[1]).abs().max() > 0.1


def test_batches_visit_everything_and_lengths_do_not_mix():
    seen = np.concatenate(list(batches(10, 5, 4, 0)))
    assert (np.bincount(seen) == 2).all()
    lengths = np.array([3, 3, 4, 4, 4, 9])
    for rows in blip.by_length(lengths, 2, 20, 0):
        assert len(set(lengths[rows])) == 1


def test_labels_and_augmentation(images):
    labels = attribute_labels(draw_looks(50, 0))
    assert labels.shape == (50, len(ATTRIBUTES))
    assert (labels[:, 5] == -100).any()
    assert (labels[:, :5] >= 0).all()
    x = pixels(images)
    again = moved(x, np.random.default_rng(0))
    assert again.shape == x.shape
    assert torch.allclose(again.sum(), x.sum(), rtol=1e-3)
