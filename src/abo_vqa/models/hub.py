"""The model hub: whether it can be reached, what is still to be fetched, room for it."""

from __future__ import annotations

import fnmatch
import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.system_errors import nearest

_PROBE_S = 5.0  # as good as never: the hub's own retries take minutes a model
_RESERVE = 1 << 30  # bytes that a download shouldn't take from a disk
# What the loaders fetch, the first kind that a repository has.
# The file that holds weights, or names those that do → all files with weights of that kind.
WEIGHT_FILES = {
    "model.safetensors": "model*.safetensors",
    "model.safetensors.index.json": "model*.safetensors",
    "open_clip_model.safetensors": "open_clip_model.safetensors",
    "pytorch_model.bin": "pytorch_model*.bin",
    "pytorch_model.bin.index.json": "pytorch_model*.bin",
    "open_clip_pytorch_model.bin": "open_clip_pytorch_model.bin",
}


def quiet() -> None:
    """Loading bars and advice meant for developers don't belong in a stage's output; the bars of
    downloads do, which take minutes."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    # A repository with nothing but pickled weights would be asked for others in a second thread.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "true")
    logging.set_verbosity_error()
    logging.disable_progress_bar()  # the hub's as well
    if not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()


def hub_options(path: str) -> dict[str, Any]:
    """Keyword arguments for `from_pretrained` and the like, having looked at the network.

    Args:
        path: a folder, or a repository of the hub.
    """
    return {"local_files_only": True} if is_repository(path) and not reachable() else {}


def is_repository(path: str) -> bool:
    """Whether a checkpoint's path can only mean a repository of the hub: one that begins with a
    folder that is here (models/…) means what should be in it."""
    owner, _, name = path.partition("/")
    if Path(path).is_dir() or "/" in name or path.startswith((".", "/", "~")):
        return False
    return not name or not Path(owner).is_dir()


@cache
def reachable() -> bool:
    """Whether the hub answers, asked once a process.

    Without an answer its library tries again for minutes a model, also with everything in its
    cache.
    """
    import requests
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        requests.head(constants.ENDPOINT, timeout=_PROBE_S)
    except requests.RequestException:
        print(
            "the model hub can't be reached: using what is in its cache here "
            "(HF_HUB_OFFLINE=1 doesn't even ask).",
            file=sys.stderr,
        )
        return False
    return True


def require_room(path: str, revision: str | None) -> None:
    """Refuse to download weights that don't fit on the disk.

    Raises:
        UserError: see above.
    """
    from huggingface_hub import constants

    if not is_repository(path) or not reachable():
        return
    needed = _to_fetch(path, revision)
    if not needed:
        return
    folder = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(nearest(folder)).free
    what = f"{path}: {needed / 1e9:,.1f} GB of weights are to be fetched into {folder}"
    if needed + _RESERVE > free:
        raise UserError(
            f"{what}, where {free / 1e9:,.1f} GB are free. "
            "Make room, or set HF_HOME to a folder on another disk."
        )
    print(what, file=sys.stderr)  # the hub's bars show on a terminal only


def _to_fetch(path: str, revision: str | None) -> int:
    """Bytes of a repository's weights that aren't in the cache; 0 where the hub doesn't say."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        found = HfApi().model_info(path, revision=revision, files_metadata=True, timeout=_PROBE_S)
    except (
        Exception
    ):  # whatever the hub's client of this version raises: loading says what is wrong
        return 0
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or ()}
    for kind in dict.fromkeys(WEIGHT_FILES.values()):
        if names := fnmatch.filter(sizes, kind):
            cached = [try_to_load_from_cache(path, name, revision=revision) for name in names]
            left = [n for n, file in zip(names, cached, strict=True) if not isinstance(file, str)]
            return sum(sizes[name] for name in left)
    return 0
