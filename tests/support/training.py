"""A project folder with a tiny model and its vision outputs, copied for each test."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from abo_vqa import cli
from abo_vqa.core.config import load_config
from abo_vqa.core.summary import no_log
from abo_vqa.stages import embed, finetune
from tests.support import workspaces
from tests.support.stages import run_stage
from tests.support.vlm_checkpoints import save_checkpoints

QUICK = {
    "r": 4, "lr": 1e-2, "batch_size": 6, "epochs": 2, "validation": 0.25, "dropout": 0.1,
    "checkpoint_minutes": 1e-9,
}  # fmt: skip


def make(root: Path) -> Path:
    """The folder, with data/embeddings computed by the stage; leaves the current folder alone."""
    workspaces.workspace(root, "blip")
    return _embed(root, "blip")


def make_with(root: Path, name: str) -> Path:
    """The same with a decoder-only model, one of `VLM_NAMES`, that is fine-tuned as "vlm"."""
    workspaces.workspace(root, "blip", images=6)
    saved = save_checkpoints(root / "models", [name])[name]
    profile = root / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    folder = saved.folder.relative_to(root).as_posix()
    settings["models"]["vlm"] = {"family": saved.family, "path": folder, "prompt": saved.prompt}
    profile.write_text(yaml.safe_dump(settings))
    return _embed(root, "vlm")


def _embed(root: Path, model: str) -> Path:
    """Run the stage `embed` in a folder, with quick settings for what follows it."""
    before = Path.cwd()
    os.chdir(root)
    try:
        set_lora({**QUICK, "model": model})
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


def finetune_here(killed_at: int = 0) -> None:
    """For a process of its own: run the stage, or until SIGKILL after that step."""

    def log(metrics: dict[str, float], step: int) -> None:
        if step == killed_at and "loss" in metrics:
            os.kill(os.getpid(), signal.SIGKILL)

    finetune.run(load_config(), log if killed_at else no_log).cleanup()


def finetune_on_a_full_disk(size: int) -> None:
    """For a process of its own: the command, where no file may become larger than `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    finetune.execute = lambda name, run, config, **options: run(load_config()).message
    sys.exit(cli.main(["finetune"]))
