"""LoRA (Hu et al., 2022, arXiv:2106.09685) on a model, and the adapter's folder."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import nn

from abo_vqa.core.errors import UserError
from abo_vqa.models.adapters import is_vision
from abo_vqa.training.dropout import replace_dropout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from abo_vqa.core.config import FinetuneConfig
    from abo_vqa.training.family import TrainableFamily


def add_lora(family: TrainableFamily, settings: FinetuneConfig) -> tuple[PeftModel, list[str]]:
    """Put LoRA on the layers whose name is, or ends with, one of the targets.

    Layers of the vision part get it only if a target exists nowhere else, as a full name does: a
    language model's q_proj is often also a vision tower's.

    Args:
        family: has the base model, whose layers are replaced.
        settings: rank, targets and the like.

    Returns:
        PEFT's model, and the names of the layers that matched.

    Raises:
        UserError: a target matches no layer, or one that LoRA can't be put on.
    """
    model, source = family.vqa.model, family.vqa.checkpoint
    layers = _possible_layers(model)
    _check_targets(layers, settings.targets)
    if source.quantize:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        exclude_modules=_excluded(layers, settings.targets, family.vqa.vision_modules),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        base_model_name_or_path=source.path,
        revision=source.revision,
    )
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers for an attribute by its old name.
            warnings.simplefilter("ignore", FutureWarning)
            peft_model = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"lora.targets: {error}") from error
    assert isinstance(peft_model, PeftModel)
    replace_dropout(peft_model)
    if settings.gradient_checkpointing:
        family.enable_gradient_checkpointing()
    return peft_model, sorted(peft_model.targeted_module_names)


def _possible_layers(model: PreTrainedModel) -> list[str]:
    """The names of the layers that LoRA can be put on."""
    kinds = (nn.Linear, nn.Embedding, nn.Conv2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def _matching(layers: Sequence[str], target: str) -> list[str]:
    """The layers that PEFT takes a target for."""
    return [name for name in layers if name == target or name.endswith(f".{target}")]


def _check_targets(layers: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse targets that match no layer: PEFT does so only if none of them matches any."""
    unknown = [target for target in targets if not _matching(layers, target)]
    if unknown:
        short = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise UserError(
            f"lora.targets: no layer is called {', '.join(unknown)}. There are: "
            f"{', '.join(short)}, or a full name such as {layers[-1]}."
        )


def describe_targets(layers: list[str]) -> str:
    """Return one line per kind of layer with its count; numbers in names become *."""
    kinds = Counter(re.sub(r"\.\d+\.", ".*.", name) for name in layers)
    return "\n".join(f"  {name} ({count})" for name, count in kinds.items())


def _excluded(
    layers: Sequence[str], targets: Sequence[str], vision_modules: Collection[str]
) -> str | None:
    """Return a pattern of the vision part's layers that aren't meant by targets of the same name.

    Returns:
        The pattern for PEFT's `exclude_modules`; None if there are no such layers.
    """
    ambiguous, meant = [], []
    for target in targets:
        inside = [is_vision(name, vision_modules) for name in _matching(layers, target)]
        if all(inside):
            meant.append(re.escape(target))
        elif any(inside):
            ambiguous.append(re.escape(target))
    if not ambiguous:
        return None
    modules = "|".join(re.escape(module) for module in vision_modules)
    unless = rf"(?!(.*\.)?({'|'.join(meant)})$)" if meant else ""
    return rf"{unless}(.*\.)?({modules})\.(.*\.)?({'|'.join(ambiguous)})"


def trains_vision(layers: Sequence[str], vision_modules: Collection[str]) -> bool:
    """Return whether the vision part is trained, so that its outputs can't be cached.

    Args:
        layers: the names of the layers with LoRA.
        vision_modules: see `PretrainedVQAModel`.
    """
    return any(is_vision(name, vision_modules) for name in layers)


def save_adapter(model: PeftModel, processor: ProcessorMixin, folder: Path) -> None:
    """Write the adapter and the processor into a folder."""
    # "auto" queries the hub for the base model's vocabulary at every save; and since BLIP names its
    # embeddings differently, it wouldn't store them.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    processor.save_pretrained(folder)
    config = folder / "adapter_config.json"
    _edit_json(config, _sort_targets)
    _edit_json(folder / "tokenizer_config.json", _drop_origin)
    # safetensors makes its file readable for its owner only.
    (folder / "adapter_model.safetensors").chmod(config.stat().st_mode)


def _sort_targets(config: dict[str, Any]) -> None:
    """PEFT keeps the targets in a set, whose order changes from run to run."""
    config["target_modules"] = sorted(config["target_modules"])


def _drop_origin(config: dict[str, Any]) -> None:
    """How the base's tokenizer was found (HF_HUB_OFFLINE set or not) isn't the adapter's."""
    for name in ("is_local", "local_files_only"):
        config.pop(name, None)


def _edit_json(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(file.read_text(encoding="utf-8"))
    edit(value)
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
