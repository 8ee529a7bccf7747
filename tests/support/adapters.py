"""Adapters made with PEFT alone."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import BlipForQuestionAnswering


def adapter_for(base: Path, folder: Path, targets: list[str], **options) -> Path:
    """A plain PEFT folder, without a processor, whose weights change answers."""
    model = BlipForQuestionAnswering.from_pretrained(base)
    adapted = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, **options)
    )
    chance = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=chance)
    adapted.save_pretrained(folder)
    return folder
