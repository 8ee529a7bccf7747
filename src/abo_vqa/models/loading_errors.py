"""Why a checkpoint can't be loaded, in one message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import GatedRepoError
from safetensors import SafetensorError

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import out_of_memory
from abo_vqa.core.paths import SAMPLE_MODELS
from abo_vqa.core.system_errors import find_os_error
from abo_vqa.models.hub import is_repository, reachable
from abo_vqa.models.torch_files import DAMAGE_ERRORS

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig

# What libraries raise for a folder that isn't a checkpoint of theirs, or is damaged.
_UNREADABLE = (*DAMAGE_ERRORS, MemoryError, SafetensorError)
_MAX_REASON = 300  # characters of a library's message
# How libraries say that weights don't fit the model's layers.
_MISFIT = re.compile(r"state_dict|mismatch|PytorchStreamReader|pretrained", re.IGNORECASE)


@contextmanager
def loading_errors(checkpoint: CheckpointConfig, advice: str = "") -> Iterator[None]:
    """Turn a library's failure to find, read or hold a checkpoint into one clear message.

    Args:
        checkpoint: the checkpoint's settings.
        advice: what to do if memory is too small for it.

    Raises:
        UserError: the checkpoint can't be loaded.
    """
    path = checkpoint.path
    try:
        yield
    except ImportError as error:  # some processors need a package that no other does
        text = " ".join(str(error).split())[:_MAX_REASON]
        raise UserError(f"can't load the checkpoint {path}: {text}") from error
    except _UNREADABLE as error:
        if _is_gated(path, error):
            raise _gated(path) from error
        text = " ".join(str(error).split())[:_MAX_REASON]
        reason = f"{type(error).__name__}: {text}".rstrip(": ")
        if out_of_memory(error):
            message = [f"{path}: out of memory while loading the weights.", advice, f"({reason})"]
            raise UserError(" ".join(message)) from error
        if find_os_error(error) or (
            isinstance(error, RuntimeError) and not _MISFIT.search(str(error))
        ):
            raise
        raise UserError(
            f"can't load the checkpoint {path}: {_path_hint(path)}. ({reason})"
        ) from error


def _is_gated(path: str, error: BaseException) -> bool:
    """Return whether loading failed because a repository's licence hasn't been accepted.

    Args:
        path: the checkpoint's path.
        error: what a library raised. Some report a gated file like one that doesn't exist, so the
            hub is asked as well.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, GatedRepoError):
            return True
        cause = cause.__cause__ or cause.__context__
    if not is_repository(path) or not reachable():
        return False
    try:
        HfApi().auth_check(path)
    except Exception as refusal:  # anything else that the hub's client raises isn't about a licence
        return isinstance(refusal, GatedRepoError)
    return False


def _gated(path: str) -> UserError:
    """Return the error for a repository whose licence has to be accepted first."""
    state = "the token that is set has no access" if get_token() else "no token is set"
    return UserError(
        f"the checkpoint {path} is in a gated repository: accept its licence at "
        f"{constants.ENDPOINT}/{path}, and set HF_TOKEN to a token of the same account that may "
        f"read gated repositories ({state})."
    )


def _path_hint(path: str) -> str:
    """Return why a checkpoint's path may lead nowhere."""
    if Path(path).is_dir():
        return "the folder has no checkpoint of this kind, or an incomplete one"
    if is_repository(path) and "/" in path:
        return "no such folder, not in the local cache, and not available from the hub"
    if Path(path).is_relative_to(SAMPLE_MODELS):
        return "no folder of that name; `dvc pull` fetches the sample's, `make sample` makes them"
    more = "; ~ isn't expanded here, write the full path" if path.startswith("~") else ""
    return f"no folder of that name; correct the path in the profile{more}"
