"""The engine that the settings name, and what models need of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
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
    try:
        from abo_vqa.core.engine.on_ray.engine import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError(
            "compute.engine is ray, and the package isn't installed: `make setup EXTRAS=scale`; or "
            "set compute.engine to local."
        ) from error
    with closing(RayEngine(config.compute.workers, config.threads)) as engine:
        yield engine


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
