"""What is recorded of an adapter in MLflow's model registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import abo_vqa
from abo_vqa import models
from abo_vqa.core.config import Config
from abo_vqa.core.fingerprints import file_md5, fingerprint
from abo_vqa.core.paths import ADAPTER, TRAIN
from abo_vqa.core.summary import ModelVersion, ModelVersionInfo
from abo_vqa.training.registry import trained_checkpoint
from abo_vqa.training.run import training_seed

# MLflow copies these files: importing the first one would load MLflow, before threads are pinned.
_CODE = Path(models.__file__).with_name("registered.py")
_PACKAGE = Path(abo_vqa.__file__).parent
_PARTS = ("__init__.py", "core", "data", "models")
_REQUIREMENTS = (
    "mlflow", "torch", "torchvision", "transformers", "peft", "accelerate", "safetensors",
    "huggingface_hub", "pillow", "numpy", "pandas", "pydantic", "pyyaml", "tqdm", "filelock",
)  # fmt: skip


def describe_adapter(config: Config, metrics: Mapping[str, Any], message: str) -> ModelVersion:
    """Describe the adapter that was trained.

    Args:
        config: the settings.
        metrics: numbers about the training; see `TrainingResult`.
        message: the stage's message.
    """
    settings, checkpoint = config.lora, trained_checkpoint(config)
    description = (
        f"LoRA on {checkpoint.path}: r {settings.r}, alpha {settings.alpha:g}, "
        f"lr {settings.lr:g}, targets {', '.join(settings.targets)}; "
        f"profile {config.profile}, seed {training_seed(config)}.\n{message}"
    )
    info = ModelVersionInfo(
        name=config.tracking.model_name,
        profile=config.profile,
        code=str(_CODE),
        package=str(_PACKAGE),
        package_parts=_PARTS,
        requirements=_REQUIREMENTS,
        inputs=("image", "question"),
        outputs=("answer", "error"),
        description=description,
        settings={
            "family": str(checkpoint.family),
            "prompt": checkpoint.prompt,
            "answer": "whole",  # an adapter learns to write the answer and nothing else
            "max_new_tokens": checkpoint.max_new_tokens,
            "batch_size": checkpoint.batch_size,
            "inference_device": "auto",
            "inference_dtype": checkpoint.dtype or config.compute.dtype,
            "threads": settings.threads or config.threads,
            **({"quantize": checkpoint.quantize} if checkpoint.quantize else {}),
        },
        validation=metrics["best_validation_accuracy"],
        held_out=fingerprint([{"training": file_md5(TRAIN)}, config.seed, settings.validation]),
        tags={"profile": config.profile, "lora.model": settings.model, "lora.r": str(settings.r)},
    )
    return ModelVersion(ADAPTER, info)
