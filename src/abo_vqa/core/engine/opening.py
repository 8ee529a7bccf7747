"""The engine that the settings name, and what models need of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.core.engine.local import LocalEngine
from abo_vqa.core.engine.work import Engine, Needs
from abo_vqa.core.errors import UserError

if TYPE_CHECKING:
    from abo_vqa.core.config import Config


@contextmanager
def open_engine(config: Config) -> Generator[Engine, None, None]:
    """Open the engine that `compute.engine` names.

    Args:
        config: the settings.

    Yields:
        The engine; on Ray, the connection to the cluster ends with the block.

    Raises:
        UserError: Ray isn't installed, or the cluster can't be reached.
    """
    if config.compute.engine == "local":
        yield LocalEngine()
        return
    share_token()
    try:
        from abo_vqa.core.engine.on_ray.engine import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError(
            "compute.engine is ray, and the package isn't installed. Install it with `make setup "
            "EXTRAS=scale`, or set compute.engine to local."
        ) from error
    with closing(RayEngine(config.compute.workers, config.threads)) as engine:
        yield engine


def share_token() -> None:
    """Send Ray's token to the cluster that RAY_ADDRESS names, if there is one.

    `ray start` asks for a token as soon as it has one (RAY_AUTH_TOKEN, or a file that the first
    cluster on a machine leaves), but a program sends it only if it is told to: before Ray is
    imported. A cluster that doesn't ask for it takes no notice.
    """
    if os.environ.get("RAY_ADDRESS", "local") == "local" or "ray" in sys.modules:
        return  # a cluster of one's own; or too late, and only for what this process starts
    file = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    if os.environ.get("RAY_AUTH_TOKEN") or Path(file).is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def model_needs(config: Config) -> Needs:
    """Return what a worker takes that runs a model.

    Args:
        config: the settings.

    Raises:
        UserError: `compute.device` names one GPU, and workers have one each.
    """
    device = config.compute.device
    if config.compute.engine == "ray" and ":" in device:
        raise UserError(
            f"compute.device is {device}, one GPU of one machine, but compute.engine is ray, whose "
            "workers have a GPU each. Set compute.device to auto, cuda or cpu."
        )
    gpu = {"cpu": False, "auto": None}.get(device, True)
    return Needs(cpus=config.threads, gpu=gpu)
