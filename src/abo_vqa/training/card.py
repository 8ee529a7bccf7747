"""The model card beside the adapter: training and validation numbers (test's are the report's)."""

from __future__ import annotations

from typing import Any

from abo_vqa.config import Config

_CARD = """---
base_model: {base}
library_name: peft
pipeline_tag: visual-question-answering
tags: [blip, lora, visual-question-answering]
---

# LoRA adapter for single-word visual question answering

{base} with LoRA (rank {r}, alpha {alpha:g}, dropout {dropout:g}) on the layers {targets}
of its text encoder and decoder: {layers} layers, {parameters:,} trainable parameters. The vision
tower is frozen.

| | |
|---|---|
| training rows | {rows:,} questions about {images:,} pictures (profile `{profile}`) |
| held out of them, by group | {held:,} |
| epochs | {epochs}, the best is {best} |
| batch, learning rate | {batch}, {lr:g} ({schedule}) |
| exact match on the held-out rows | {accuracy:.3f} |

```python
from peft import PeftModel
from transformers import AutoProcessor, BlipForQuestionAnswering

base = BlipForQuestionAnswering.from_pretrained("{base}"{revision})
model = PeftModel.from_pretrained(base, "models/adapter").eval()
processor = AutoProcessor.from_pretrained("models/adapter")
```

Ask one question at a time, or batches of questions with equally many tokens: BLIP's stock
`generate` ignores the padding of a mixed batch. Answers are single words about product pictures;
anything else is outside what it was trained for. Test results are in the report of the run.
"""


def model_card(config: Config, found: dict[str, Any]) -> str:
    """The card's text from the configuration and what training found."""
    settings, source = config.lora, config.models.blip
    return _CARD.format(
        base=source.path,
        revision=f', revision="{source.revision}"' if source.revision else "",
        r=settings.r,
        alpha=settings.alpha,
        dropout=settings.dropout,
        targets=", ".join(f"`{name}`" for name in settings.targets),
        layers=found["modules"],
        parameters=found["trainable_parameters"],
        rows=found["rows"],
        held=found["held_out_rows"],
        images=found["images"],
        profile=config.profile,
        epochs=settings.epochs,
        best=found["best_epoch"],
        batch=settings.batch_size * settings.accumulate,
        lr=settings.lr,
        schedule=settings.schedule,
        accuracy=found["best_validation_accuracy"],
    )
