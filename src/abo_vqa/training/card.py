"""The model card in the adapter's folder, with the numbers of training and validation.

Those of the test rows are in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from abo_vqa.core.config import Config
from abo_vqa.training.registry import trained_checkpoint

_CARD = """---
{front_matter}
---

# LoRA adapter for single-word visual question answering

{base} with LoRA (rank {r}, alpha {alpha:g}, dropout {dropout:g}) on the layers {targets}{layers}

| | |
|---|---|
| trained on | {rows:,} questions about {images:,} images (profile `{profile}`) |
| validated on | {validated_on} |
| epochs | {epochs}, the best is {best} |
| batch, learning rate | {batch}, {lr:g} ({schedule}) |
| exact match on {validation_rows} | {accuracy:.3f} |

```python
from peft import PeftModel
from transformers import {imports}

base = {model_class}.from_pretrained("{base}"{revision})
model = PeftModel.from_pretrained(base, "models/adapter").eval()
processor = AutoProcessor.from_pretrained("models/adapter")
```
{usage}"""
_BLIP_LAYERS = """
of its text encoder and decoder: {layers} layers, {parameters:,} trainable parameters. The vision
tower is frozen."""
_LAYERS = ": {layers}\nlayers, {parameters:,} trainable parameters."
_BLIP_USAGE = """
Ask one question at a time, or batches of questions with equally many tokens: BLIP's stock
`generate` ignores the padding of a mixed batch. Answers are single words about product images;
anything else is outside what it was trained for. Test results are in the report of the run.
"""
_USAGE = """
It was trained on the prompt {prompt}{template}. Answers are single words about product images;
anything else is outside what it was trained for. Test results are in the report of the run.
"""


def describe_validation(held_out: int) -> str:
    """Return on which rows the best epoch's accuracy was measured.

    Args:
        held_out: how many rows were held out; if none were, validation sees the training rows.
    """
    return f"{held_out:,} held-out rows" if held_out else "the training rows"


def model_card(config: Config, metrics: Mapping[str, Any]) -> str:
    """Return the card's text.

    Args:
        config: the configuration.
        metrics: numbers about the training; see `TrainingResult`.
    """
    settings, source = config.lora, trained_checkpoint(config)
    validation_rows = describe_validation(metrics["held_out_rows"])
    if metrics["held_out_rows"]:
        validated_on = f"{metrics['held_out_rows']:,} other questions, held out by group"
    else:
        validated_on = f"{validation_rows}: none is held out (`lora.validation: 0`)"
    blip = source.family == "blip"
    data = ModelCardData(
        base_model=source.path,
        library_name="peft",
        pipeline_tag="visual-question-answering",
        tags=[*(["blip"] if blip else []), "lora", "visual-question-answering"],
    )
    model_class = "BlipForQuestionAnswering" if blip else "AutoModelForImageTextToText"
    layers = (_BLIP_LAYERS if blip else _LAYERS).format(
        layers=metrics["modules"], parameters=metrics["trainable_parameters"]
    )
    template = ", in the chat template" if source.family == "chat" else ""
    return _CARD.format(
        front_matter=data.to_yaml(),
        base=source.path,
        revision=f', revision="{source.revision}"' if source.revision else "",
        r=settings.r,
        alpha=settings.alpha,
        dropout=settings.dropout,
        targets=", ".join(f"`{name}`" for name in settings.targets),
        layers=layers,
        imports=", ".join(sorted(["AutoProcessor", model_class])),
        model_class=model_class,
        usage=_BLIP_USAGE
        if blip
        else _USAGE.format(prompt=f"`{source.prompt}`", template=template),
        rows=metrics["rows"],
        validated_on=validated_on,
        validation_rows=validation_rows,
        images=metrics["images"],
        profile=config.profile,
        epochs=settings.epochs,
        best=metrics["best_epoch"],
        batch=settings.batch_size * settings.accumulate,
        lr=settings.lr,
        schedule=settings.schedule,
        accuracy=metrics["best_validation_accuracy"],
    )
