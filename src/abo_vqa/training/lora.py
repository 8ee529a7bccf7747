"""LoRA (Hu et al., 2022, arXiv:2106.09685) put on a model, and written as a PEFT folder."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    from abo_vqa.config import CheckpointConfig, FinetuneConfig

_VISION = "vision_model."


def add_lora(
    blip: Any, settings: FinetuneConfig, source: CheckpointConfig
) -> tuple[Any, list[str]]:
    """Put LoRA on the layers whose name is, or ends with, one of the targets.

    Returns:
        PEFT's model, and the names of the layers that matched.
    Raises:
        UserError: a target matches no layer, or one that LoRA can't be put on; says what there is.
    """
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    from abo_vqa.training.dropout import cheaper

    kinds = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv2d)
    layers = [name for name, module in blip.named_modules() if isinstance(module, kinds)]
    unknown = [
        target
        for target in settings.targets
        if not any(name == target or name.endswith(f".{target}") for name in layers)
    ]
    if unknown:
        short = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise UserError(
            f"lora.targets: no layer is called {', '.join(unknown)}. There are: "
            f"{', '.join(short)}; also with the names before, e.g. {layers[-1]}."
        )
    if source.quantize:
        blip = prepare_model_for_kbit_training(blip, use_gradient_checkpointing=False)
    wanted = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        base_model_name_or_path=source.path,
        revision=source.revision,
    )
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers for an attribute by its old name.
            warnings.simplefilter("ignore", FutureWarning)
            model = get_peft_model(blip, wanted)
    except ValueError as error:
        raise UserError(f"lora.targets: {error}") from error
    cheaper(model)
    return model, sorted(model.targeted_module_names)


def outline(matched: list[str]) -> str:
    """The layers that matched, a line a kind and how many of it: numbers in names become *."""
    kinds = Counter(re.sub(r"\.\d+\.", ".*.", name) for name in matched)
    return "\n".join(f"  {name} ({count})" for name, count in kinds.items())


def reaches_vision(matched: list[str]) -> bool:
    """Whether the vision tower learns, so that its outputs can't be kept."""
    return any(name.startswith(_VISION) for name in matched)


def save(model: Any, processor: Any, folder: Path) -> None:
    """Write the adapter and the processor as a whole, in place of an earlier one."""
    staged = folder.with_name(f".{folder.name}-new")
    shutil.rmtree(staged, ignore_errors=True)
    # "auto" asks the hub about the base's vocabulary at every save, and BLIP's embeddings, under
    # names of their own, aren't what it would then store.
    model.save_pretrained(staged, save_embedding_layers=False)
    processor.save_pretrained(staged)
    # PEFT keeps the targets in a set, whose order changes from run to run.
    described = staged / "adapter_config.json"
    settings = json.loads(described.read_text(encoding="utf-8"))
    settings["target_modules"] = sorted(settings["target_modules"])
    described.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    # How the base's tokenizer was found (HF_HUB_OFFLINE set or not) doesn't belong to it.
    spelled = staged / "tokenizer_config.json"
    settings = json.loads(spelled.read_text(encoding="utf-8"))
    for name in ("is_local", "local_files_only"):
        settings.pop(name, None)
    spelled.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    # safetensors makes its file private.
    (staged / "adapter_model.safetensors").chmod(described.stat().st_mode)
    shutil.rmtree(folder, ignore_errors=True)
    staged.rename(folder)
