"""What a run comes from: the command, the commit, the settings that were changed, the machine."""

from __future__ import annotations

import getpass
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import yaml

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.nested import flatten
from abo_vqa.core.processes import is_dvc, names_dvc

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

logger = get_logger(__name__)

# What results depend on besides settings and data; params.yaml is recorded value by value.
SOURCES = ("src", "conf", "dvc.yaml", "requirements.lock")
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy", "pandas", "pillow", "dvc")


@dataclass(frozen=True)
class Invocation:
    """What the user started: an experiment, a `dvc repro`, or a stage by hand.

    Attributes:
        key: the same for all its stages, different for any other invocation.
        name: what tells it from others at a glance.
        command: as it was typed, as far as that can be known.
    """

    key: str
    name: str
    command: str


def git(*arguments: str) -> str | None:
    """Ask git.

    Args:
        *arguments: the words of its command line.

    Returns:
        Its answer; None, with one warning per process, where git is missing or refuses.
    """
    try:
        process = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        _no_git("git isn't installed")
        return None
    if process.returncode == 0:
        return process.stdout.strip()
    messages = process.stderr.strip().splitlines()
    _no_git(
        messages[0].removeprefix("fatal: ").partition(" (")[0]
        if messages
        else f"exit status {process.returncode}"
    )
    return None


@cache
def _warn_once(line: str) -> None:
    """Warn about something that holds for the whole process."""
    logger.warning(line)


def _no_git(reason: str) -> None:
    _warn_once(f"MLflow's runs are recorded without a commit: {reason}")


def git_commit() -> str:
    """Return the checked-out git commit, or "" where git can't tell."""
    return git("rev-parse", "HEAD") or ""


def git_tags() -> dict[str, str]:
    """Return tags with the commit and whether the sources differ from it: "true" or "false"."""
    head = git_commit()
    if not head:
        return {}
    changed = git("status", "--porcelain", "--", *SOURCES)
    dirty = {} if changed is None else {"mlflow.source.git.dirty": str(bool(changed)).lower()}
    return {"mlflow.source.git.commit": head, **dirty}


def changed_settings() -> dict[str, str]:
    """List the settings in params.yaml that differ from the commit's: {"lora.r": "8 (was 16)"}."""
    before = git("show", "HEAD:./params.yaml") if git_commit() else None
    if before is None or not Path("params.yaml").is_file():
        return {}
    now = flatten(yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")) or {})
    was = flatten(yaml.safe_load(before) or {})
    return {
        key: f"{value} (was {was.get(key)})" for key, value in now.items() if was.get(key) != value
    }


def _dvc_process() -> psutil.Process | None:
    """The DVC process that runs this stage, if one does."""
    return next(filter(is_dvc, psutil.Process().parents()), None)


def invocation(profile: str) -> Invocation:
    """Find out what the user started.

    Args:
        profile: the settings' profile.
    """
    head, began = git_commit(), time.time()
    process = _dvc_process()
    number = f"process:{os.getpid()}:{began:.0f}"
    command = "abo-vqa " + shlex.join(sys.argv[1:])
    if process is not None:
        words, began = process.cmdline(), process.create_time()
        number = f"repro:{process.pid}:{began:.0f}"
        at = next(i for i, word in enumerate(words) if names_dvc(word))
        command = shlex.join(["dvc", *words[at + 1 :]])
    if name := os.environ.get("DVC_EXP_NAME"):
        # A name may come again: on another commit, or on the same one with --force.
        run = f":{number}" if process is not None else ""
        return Invocation(f"exp:{name}:{head}{run}", name, command)
    kind = "repro" if process is not None else "by hand"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began))
    return Invocation(number, " ".join(filter(None, [kind, head[:7], profile, when])), command)


def owner_tags() -> dict[str, str]:
    """Return tags with the user and the process: a run whose process is gone was killed."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    began = psutil.Process().create_time()
    return {
        "mlflow.user": user,
        "abo_vqa.host": socket.gethostname(),
        "abo_vqa.process": f"{os.getpid()}:{began:.0f}",
    }


def process_has_ended(tags: dict[str, str]) -> bool:
    """Tell whether the process that `owner_tags` names was on this machine and has ended.

    Args:
        tags: a run's tags.
    """
    if tags.get("abo_vqa.host") != socket.gethostname():
        return False
    number, _, began = tags.get("abo_vqa.process", "").partition(":")
    if not number.isdigit():
        return False
    try:
        return f"{psutil.Process(int(number)).create_time():.0f}" != began
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def machine(config: Config, checkpoint: str | None = None) -> dict[str, str]:
    """Describe the libraries and the hardware that a stage ran on.

    Device and dtype are the actual ones for "auto", and given only where torch was used.

    Args:
        config: the settings.
        checkpoint: the key under `models` of the weights it used, None if it used none.
    """
    properties = {"python": platform.python_version(), "cpu": _cpu_name()}
    properties["cpu_cores"] = str(os.cpu_count())
    for library in LIBRARIES:
        if library in sys.modules or (library == "pillow" and "PIL" in sys.modules):
            properties[f"version.{library}"] = metadata.version(library)
    if "torch" in sys.modules:
        properties |= _device(config, checkpoint)
    return properties


def _device(config: Config, checkpoint: str | None) -> dict[str, str]:
    """Describe the device a stage's model was on, and the dtype of its arithmetic."""
    import torch

    from abo_vqa.core.devices import pick_device, pick_dtype

    try:
        chosen = pick_device(config.compute.device)
    except UserError:  # that's what ended the stage, which says so itself
        return {}
    properties = {"device": str(chosen)}
    if chosen.type == "cuda":
        properties["device_name"] = torch.cuda.get_device_name(chosen)
    if checkpoint is not None:
        dtype = pick_dtype(getattr(config.models, checkpoint), config.compute, chosen)
        properties["dtype"] = str(dtype).removeprefix("torch.")
    return properties


@cache
def _cpu_name() -> str:
    """The processor's model as the system calls it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
