"""A project folder with a tiny BLIP and its vision outputs, copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from abo_vqa.core.config import load_config
from tests.support import workspaces
from tests.support.stages import run_stage

QUICK = {
    "r": 4, "lr": 1e-2, "batch_size": 6, "epochs": 2, "validation": 0.25, "dropout": 0.1,
    "checkpoint_minutes": 1e-9,
}  # fmt: skip


def make(root: Path) -> Path:
    """The folder, with data/embeddings computed by the stage; leaves the current folder alone."""
    import os

    from abo_vqa.stages import embed

    workspaces.workspace(root, "blip")
    before = Path.cwd()
    os.chdir(root)
    try:
        set_lora(QUICK)
        run_stage(embed, load_config())
    finally:
        os.chdir(before)
    return root


def copy(made: Path, root: Path) -> Path:
    shutil.copytree(made, root, dirs_exist_ok=True)
    return root


def set_lora(values: dict[str, Any]) -> Any:
    """Change `lora` in params.yaml of the current folder, one thread; returns the configuration."""
    file = Path("params.yaml")
    params = yaml.safe_load(file.read_text())
    params["threads"] = 1
    params["lora"] |= values
    file.write_text(yaml.safe_dump(params))
    return load_config()
