"""What is recorded of an adapter in MLflow's model registry."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import abo_vqa
from abo_vqa import models
from abo_vqa.core.config import Config
from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.paths import ADAPTER
from abo_vqa.core.summary import ModelVersion, ModelVersionInfo
from abo_vqa.data.archive import open_archive
from abo_vqa.training.registry import trained_checkpoint
from abo_vqa.training.run import TrainingResult, training_seed

if TYPE_CHECKING:
    import pandas as pd

# MLflow copies these files: importing the first one would load MLflow, before threads are pinned.
_CODE = Path(models.__file__).with_name("registered.py")
_PACKAGE = Path(abo_vqa.__file__).parent
_PARTS = ("__init__.py", "core", "data", "models")
_REQUIREMENTS = (
    "mlflow", "torch", "torchvision", "transformers", "peft", "accelerate", "safetensors",
    "huggingface_hub", "pillow", "numpy", "pandas", "pydantic", "pyyaml", "tqdm", "filelock",
)  # fmt: skip


def describe_adapter(config: Config, result: TrainingResult) -> ModelVersion:
    """Describe the adapter that was trained.

    Args:
        config: the settings.
        result: what the training left.
    """
    settings, checkpoint, metrics = config.lora, trained_checkpoint(config), result.metrics
    description = (
        f"LoRA on {checkpoint.path}: rank {settings.r}, alpha {settings.alpha:g}, learning rate "
        f"{settings.lr:g}, layers {', '.join(settings.targets)} ({metrics['modules']} of them, "
        f"{metrics['trainable_parameters']:,} parameters); {metrics['rows']:,} rows, "
        f"{settings.epochs} epochs, the best is {metrics['best_epoch']}; profile {config.profile}, "
        f"seed {training_seed(config)}."
    )
    rows = result.held_out
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
        held_out=fingerprint(rows[["image_path", "question", "answer"]].to_numpy().tolist()),
        correct=rows["correct"].astype(bool).tolist(),
        example=_example(config, rows),
        tags={
            "profile": config.profile,
            "lora.model": settings.model,
            "lora.r": str(settings.r),
            "lora.epochs": str(settings.epochs),
            "best_epoch": str(metrics["best_epoch"]),
        },
    )
    return ModelVersion(ADAPTER, info)


def _example(config: Config, rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return the first held-out question as the registered model takes it, image and all.

    Nothing if no row is held out or the archive can't be read any more: it is an example only.
    """
    if rows.empty:
        return {}
    row = rows.iloc[0]
    try:
        with open_archive(config.data.raw) as archive:
            image = archive.read(row["image_path"])
    except (AboVqaError, OSError):
        return {}
    return {"image": [base64.b64encode(image).decode("ascii")], "question": [row["question"]]}
