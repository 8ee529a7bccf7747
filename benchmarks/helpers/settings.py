"""Settings as the profile `abo` has them, read without `abo_vqa.core.config`, which needs pydantic.

A machine with a card may have torch, transformers and peft and no network. What is read here is
compared with `abo_vqa.core.config` by `tests/project/test_gpu_benchmark.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Weights:
    """What a model asks of `abo_vqa.core.config.CheckpointConfig`, and its defaults."""

    path: str
    family: str
    revision: str | None = None
    prompt: str = "{question}"
    max_new_tokens: int = 10
    batch_size: int = 64
    dtype: str | None = None
    architecture: str | None = None
    answer: str = "whole"
    decoding: str = "free"
    quantize: str | None = None
    device_map: str | None = None


@dataclass(frozen=True)
class Arithmetic:
    """What a model asks of `abo_vqa.core.config.ComputeConfig`."""

    device: str
    dtype: str


def read(path: Path) -> dict[str, Any]:
    import yaml

    value: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return value


def profile() -> dict[str, Any]:
    return read(ROOT / "conf" / "profiles" / "abo.yaml")


def weights(name: str, **changes: Any) -> Weights:
    """The profile's settings of a model, with changes."""
    found = profile()
    batch = found["batch_sizes"][name]
    return Weights(**{"family": name, **found["models"][name], "batch_size": batch, **changes})


def arithmetic(device: str) -> Arithmetic:
    return Arithmetic(device, profile()["defaults"]["compute"]["dtype"])


def lora(**changes: Any) -> SimpleNamespace:
    """`lora` of params.yaml with the profile's values for what is null there, and changes."""
    tuned, defaults = read(ROOT / "params.yaml")["lora"], profile()["defaults"]["lora"]
    merged = {key: defaults.get(key) if value is None else value for key, value in tuned.items()}
    merged["lr"] = float(merged["lr"])  # YAML reads 5e-5 as text
    merged["targets"] = tuple(merged["targets"] or ("query", "value"))  # BLIP's default
    return SimpleNamespace(**{**merged, **changes})


def study_lora(batch: int, **changes: Any) -> SimpleNamespace:
    """The study's LoRA, whatever params.yaml says at the moment."""
    study = {"r": 16, "alpha": 16, "dropout": 0.05, "targets": ("query", "value"), "lr": 5e-5,
             "rslora": False, "dora": False, "batch_size": batch, "accumulate": 1,
             "group_pictures": True, "epochs": 1, "compile": False,
             "gradient_checkpointing": False}  # fmt: skip
    return lora(**{**study, **changes})
