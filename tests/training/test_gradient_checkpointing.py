"""Layers that are computed twice: the same gradients, less memory."""

from types import SimpleNamespace

import pytest
import torch

from abo_vqa.training.families.blip import BlipFamily
from abo_vqa.training.lora import add_lora
from tests.support import workspaces

LORA = {
    "r": 4, "alpha": 8, "rslora": False, "dora": False, "targets": ("query", "value", "qkv"),
}  # fmt: skip
QUESTIONS = list(workspaces.QUESTIONS[:4])
ANSWERS = ["red", "no", "two", "metal"]


def gradients(vqa, *, checkpointing: bool, dropout: float):
    """Loss and LoRA gradients of four rows about two images whose pixels pass the tower."""
    torch.manual_seed(0)
    family = BlipFamily(vqa)
    settings = SimpleNamespace(**LORA, dropout=dropout, gradient_checkpointing=checkpointing)
    model, _ = add_lora(family, settings)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.train()
    texts = family.tokenize(QUESTIONS, ANSWERS)
    pixels = vqa.preprocess(workspaces.pictures(2))
    batch = family.collate([0, 1, 2, 3], texts, pixels, torch.tensor([0, 0, 1, 1]))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (kept.append(t.nbytes), t)[1], lambda t: t
    ):
        loss = family.loss(batch)
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return found | {"loss": loss.detach()}, sum(kept)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_equal_to_the_bit(load, dropout):
    """With dropout as well: what it drops is drawn again as it was."""
    plain, kept = gradients(load("blip"), checkpointing=False, dropout=dropout)
    again, less = gradients(load("blip"), checkpointing=True, dropout=dropout)
    assert float(plain["loss"]) > 0
    assert all(bool(gradient.abs().max() > 0) for gradient in plain.values())
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        assert torch.equal(gradient, again[name]), name
    assert less < 0.5 * kept
