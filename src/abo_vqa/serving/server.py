"""The server's parts: LitServe's workers, and an application with this project's routes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from abo_vqa import __version__
from abo_vqa.core.config import Config
from abo_vqa.core.errors import UserError
from abo_vqa.core.nvidia import device_nodes
from abo_vqa.serving.guard import RequestGuard
from abo_vqa.serving.keys import ADMIN_KEYS, API_KEYS, KeyRing
from abo_vqa.serving.metrics import ServerMetrics
from abo_vqa.serving.pool import ModelServer, WorkerPool
from abo_vqa.serving.problems import add_problem_handlers
from abo_vqa.serving.reading import RequestReader
from abo_vqa.serving.reloading import Reloader
from abo_vqa.serving.routes import ANSWERS, PATHS, ServerParts, make_router
from abo_vqa.serving.slots import Slots
from abo_vqa.serving.source import ModelSource, resolve_source
from abo_vqa.serving.state import StateFolder
from abo_vqa.serving.worker import AnsweringAPI

_AMD = Path("/dev/kfd")  # what the system has for AMD's GPUs, "cuda" to torch


@dataclass(frozen=True)
class AnsweringServer:
    """A server that can be run.

    Attributes:
        app: the application; a page may be mounted on it until it runs.
        lit: LitServe's part, with the workers.
        parts: what the routes use.
        pages: the paths of the pages that are mounted.
    """

    app: FastAPI
    lit: ModelServer
    parts: ServerParts
    pages: tuple[str, ...] = ()


def create_server(
    config: Config,
    reference: str,
    adapter: Path,
    state_folder: Path,
    page_paths: tuple[str, ...] = (),
) -> AnsweringServer:
    """Put a server together; its model is loaded when it runs.

    Args:
        config: the settings.
        reference: the model; see `source.resolve_source`.
        adapter: the PEFT folder of the fine-tuned model.
        state_folder: an empty folder of its own.
        page_paths: where pages will be mounted.

    Raises:
        UserError: there is no such model, or a key is too short.
    """
    settings = config.serve

    def resolve() -> ModelSource:
        return resolve_source(reference, adapter, config)

    source = resolve()
    slots, state = Slots(settings.capacity), StateFolder(state_folder)
    metrics = ServerMetrics(lambda: slots.used, settings.capacity, ANSWERS)
    api = AnsweringAPI(config, slots, state)
    accelerator, devices = _devices(config)
    lit = ModelServer(
        api,
        accelerator=accelerator,
        devices=devices,
        workers_per_device=settings.workers,
        timeout=False,  # the front end has the deadline: it also covers reading the image
        restart_workers=True,
    )
    pool = WorkerPool(lit, api, slots, state, metrics)
    parts = ServerParts(
        settings,
        pool,
        metrics,
        RequestReader(settings),
        Reloader(resolve, source, state, pool, metrics),
        KeyRing(API_KEYS),
        KeyRing(ADMIN_KEYS),
    )
    _set_up_app(lit.app, parts, page_paths)
    return AnsweringServer(lit.app, lit, parts, page_paths)


def _devices(config: Config) -> tuple[str, int | list[int]]:
    """Return LitServe's words for `compute.device` and `serve.devices`."""
    name, wanted = config.compute.device, config.serve.devices
    if name == "cpu" or (name == "auto" and not (device_nodes() or _AMD.exists())):
        return "cpu", 1  # without torch, which takes seconds and 400 MB
    import torch

    from abo_vqa.core.devices import pick_device

    device = pick_device(name)
    if device.type == "cpu":
        return "cpu", 1
    if ":" in name:
        return "cuda", [device.index]
    there = torch.cuda.device_count()
    if wanted != "auto" and wanted > there:
        raise UserError(f"serve.devices: found {wanted}, but torch sees {there} GPU(s).")
    return "cuda", there if wanted == "auto" else wanted


def _set_up_app(app: FastAPI, parts: ServerParts, page_paths: tuple[str, ...]) -> None:
    """Give LitServe's application this project's routes instead of its own."""
    # Among them are /docs and /redoc, whose scripts come from another host.
    app.router.routes.clear()
    app.include_router(make_router(parts))
    add_problem_handlers(app)
    app.add_middleware(
        RequestGuard,
        paths=PATHS,
        foreign=page_paths,
        max_body=int(parts.settings.max_body_mb * 1e6),
        upload_timeout=parts.settings.upload_timeout_s,
        observe=parts.metrics.observe_response,
    )
    description: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not description:
            description.update(_describe(app, parts.settings.model_dump(mode="json")))
        return description

    app.openapi = openapi  # type: ignore[method-assign, unused-ignore]

    async def schema() -> dict[str, Any]:
        return openapi()

    app.add_api_route("/openapi.json", schema, include_in_schema=False)


def _describe(app: FastAPI, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI document, with the limits of this server."""
    limits = (
        f"At most {settings['max_questions']} questions of {settings['max_question_chars']:,} "
        f"characters, {settings['max_body_mb']:g} MB and {settings['max_pixels']:,} pixels a "
        f"request; an answer within {settings['timeout_s']:g} s."
    )
    document: dict[str, Any] = get_openapi(
        title="abo-vqa",
        version=__version__,
        summary="Visual question answering",
        description=f"Questions about images, answered by a model. {limits}",
        routes=app.routes,
    )
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    return document
