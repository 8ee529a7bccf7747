"""The model hub: whether it can be reached, what is to be downloaded, disk space for it.

This module is loaded by stages and checks that need no model: torch, transformers and the hub's
client are imported where they are used.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.system_errors import nearest_existing

logger = get_logger(__name__)

_TIMEOUT_S = 5.0  # of a request; the hub's client itself would retry for minutes per model
_RESERVE = 1 << 30  # bytes that a download leaves free on a disk
WEIGHT_FILES = {
    "model.safetensors": "model*.safetensors",
    "model.safetensors.index.json": "model*.safetensors",
    "open_clip_model.safetensors": "open_clip_model.safetensors",
    "pytorch_model.bin": "pytorch_model*.bin",
    "pytorch_model.bin.index.json": "pytorch_model*.bin",
    "open_clip_pytorch_model.bin": "open_clip_pytorch_model.bin",
}
"""The file with weights, or with the names of its shards → all files of that kind, in the order of
preference."""


def silence_libraries() -> None:
    """Turn off loading bars and developers' advice, but not the bars of downloads."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    # For a repository with only pickled weights, a thread would ask for converted ones.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "true")
    logging.set_verbosity_error()
    logging.disable_progress_bar()  # the hub's bars as well
    if not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()


def hub_options(path: str) -> dict[str, Any]:
    """Return keyword arguments for `from_pretrained`: whether the hub may be asked.

    Args:
        path: a folder, or a repository of the hub. Nothing is asked about a folder that is missing.
    """
    if Path(path).is_dir() or (is_repository(path) and reachable()):
        return {}
    return {"local_files_only": True}


def is_repository(path: str) -> bool:
    """Return whether a checkpoint's path can only mean a repository of the hub.

    A path that begins with an existing folder (models/…) means something in that folder.
    """
    owner, _, name = path.partition("/")
    if Path(path).is_dir() or "/" in name or path.startswith((".", "/", "~")):
        return False
    return not name or not Path(owner).is_dir()


@cache
def reachable() -> bool:
    """Return whether the hub answers; asked once per process.

    Without an answer the hub's client retries for minutes per model, even if everything is cached.
    """
    import requests
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        requests.head(constants.ENDPOINT, timeout=_TIMEOUT_S)
    except requests.RequestException:
        logger.warning(
            "the model hub can't be reached: using what is in its cache here "
            "(set HF_HUB_OFFLINE=1 to skip this check)."
        )
        return False
    return True


def require_disk_space(path: str, revision: str | None) -> None:
    """Refuse to download weights that don't fit on the disk.

    Args:
        path: a folder, or a repository of the hub.
        revision: the repository's revision.

    Raises:
        UserError: there isn't enough space.
    """
    from huggingface_hub import constants

    if not is_repository(path) or not reachable():
        return
    needed = _download_size(path, revision)
    if not needed:
        return
    folder = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(nearest_existing(folder)).free
    message = f"{path}: {needed / 1e9:,.1f} GB of weights will be downloaded to {folder}"
    if needed + _RESERVE > free:
        raise UserError(
            f"{message}, where {free / 1e9:,.1f} GB are free. "
            "Free some space, or set HF_HOME to a folder on another disk."
        )
    logger.info(message)  # the hub's bars are shown on a terminal only


def _download_size(path: str, revision: str | None) -> int:
    """Return how many bytes of weights aren't cached; 0 if the hub doesn't tell."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        info = HfApi().model_info(path, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
    except Exception:
        # Whatever the hub's client raises: loading the model reports what is wrong.
        return 0
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    for kind in dict.fromkeys(WEIGHT_FILES.values()):
        if names := fnmatch.filter(sizes, kind):
            cached = [try_to_load_from_cache(path, name, revision=revision) for name in names]
            missing = [
                n for n, file in zip(names, cached, strict=True) if not isinstance(file, str)
            ]
            return sum(sizes[name] for name in missing)
    return 0
