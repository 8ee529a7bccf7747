"""Dropout at a third of the library's cost on a CPU, where drawing a picture's mask is what costs.

A LoRA layer on keys or values drops numbers of a picture's 577 tokens, in each of 12 layers, which
is a tenth of a training step with cached vision.
"""

from __future__ import annotations

import torch

_CHANCES = 2**16  # a mask's number takes 16 random bits


class Dropout(torch.nn.Dropout):
    """`torch.nn.Dropout` with p rounded to 1/65,536; what is kept is scaled by the rounded p."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        threshold = round(self.p * _CHANCES)
        if not self.training or states.device.type != "cpu" or threshold in (0, _CHANCES):
            return super().forward(states)
        whole = torch.empty(-(-states.numel() // 4), dtype=torch.int64)
        whole.random_(-(2**63), None)  # all 64 bits; four numbers each
        drawn = whole.view(torch.int16)[: states.numel()].view(states.shape)
        scale = states.new_tensor(_CHANCES / (_CHANCES - threshold))
        kept = torch.where(drawn >= threshold - _CHANCES // 2, scale, states.new_zeros(()))
        return states * kept


def cheaper(model: torch.nn.Module) -> None:
    """Put `Dropout` in the place of the model's own that are on."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Dropout and child.p > 0:
                module.add_module(name, Dropout(child.p).train(child.training))
