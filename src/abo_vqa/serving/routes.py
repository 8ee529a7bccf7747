"""The server's routes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from abo_vqa.core.serve_config import ServeConfig
from abo_vqa.serving.keys import KeyRing
from abo_vqa.serving.metrics import METRICS_TYPE, ServerMetrics
from abo_vqa.serving.pool import WorkerPool
from abo_vqa.serving.problems import MEDIA_TYPE, ProblemDetails, ProblemError
from abo_vqa.serving.reading import RequestReader
from abo_vqa.serving.reloading import Reloader
from abo_vqa.serving.schemas import (
    AnswerRequest,
    AnswerResponse,
    QuestionAnswer,
    ReloadResult,
    ServedModel,
    ServerStatus,
)
from abo_vqa.serving.worker import WorkerReply

ANSWERS = "/v1/answers"
"""Where questions are asked."""
RELOAD = "/admin/reload"
"""Where an operator has the model looked up again."""
_PLAIN = ("/health", "/ready", "/metrics", "/openapi.json", "/")
PATHS = (ANSWERS, RELOAD, "/v1/model", *_PLAIN)
"""All paths of the server."""
_PROBLEMS = {
    400: "not JSON, or a damaged form",
    401: "the key is missing or wrong, where keys are used",
    408: "the request arrived too slowly",
    413: "the request is too large",
    415: "neither JSON nor a form",
    422: "the image can't be read, fields are wrong, or limits are exceeded",
    500: "the server failed",
    503: "the server is full, is stopping, or has lost a process: see Retry-After",
    504: "no answer in time",
}


@dataclass(frozen=True)
class ServerParts:
    """What the routes use.

    Attributes:
        settings: the limits.
        pool: sends requests to the workers.
        metrics: the counters.
        reader: reads requests.
        reloader: exchanges the model.
        keys: may ask; none: everybody may.
        admins: may reload; none: nobody may.
    """

    settings: ServeConfig
    pool: WorkerPool
    metrics: ServerMetrics
    reader: RequestReader
    reloader: Reloader
    keys: KeyRing
    admins: KeyRing


def make_router(parts: ServerParts) -> APIRouter:
    """Return the routes.

    Args:
        parts: what they use.
    """
    router = APIRouter()
    _add_answers(router, parts)
    _add_model(router, parts)
    _add_probes(router, parts)
    return router


def _add_answers(router: APIRouter, parts: ServerParts) -> None:
    async def answers(request: Request) -> AnswerResponse:
        if parts.keys:
            parts.keys.check(request.headers)
        parts.pool.check_capacity()  # before the body is read
        parsed = await parts.reader.parse(request)
        ticket = parts.pool.take()

        async def reply() -> WorkerReply:
            image = await parts.reader.image(parsed)
            return await parts.pool.ask(ticket, image, parsed.questions)

        try:
            given = await _while_waited_for(reply(), request, parts.settings.timeout_s)
        finally:
            parts.pool.slots.release(ticket)
        return _response(parsed.questions, given)

    router.add_api_route(
        ANSWERS,
        answers,
        methods=["POST"],
        response_model=AnswerResponse,
        responses=_problems(*_PROBLEMS),
        openapi_extra={"requestBody": _request_body(), "security": _security(parts.keys)},
        summary="Ask one or several questions about an image",
        tags=["answers"],
    )


async def _while_waited_for(
    reply: Coroutine[Any, Any, WorkerReply], request: Request, timeout: float
) -> WorkerReply:
    """Await a reply, but no longer than the client does, or may.

    Raises:
        ProblemError: it didn't come in time, or the client has left.
    """
    replying, leaving = asyncio.ensure_future(reply), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((replying, leaving), timeout=timeout, return_when="FIRST_COMPLETED")
        if replying.done():
            return await replying
        if leaving.done():
            raise ProblemError(499, "client-left", "the client closed the connection")
        detail = f"no answer within {timeout:g} s"
        raise ProblemError(504, "timeout", detail, headers={"Retry-After": "1"})
    finally:
        replying.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    """Return when a client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(questions: tuple[str, ...], reply: WorkerReply) -> AnswerResponse:
    """Return what a client gets; an image that can't be read fails the request.

    Raises:
        ProblemError: the image can't be read.
    """
    errors = {error for _, _, error in reply.answers}
    if len(errors) == 1 and (error := errors.pop()).startswith("not an image"):
        raise ProblemError(422, "image", error)
    name, version = reply.source
    return AnswerResponse(
        model=ServedModel(name=name, version=version),
        answers=[
            QuestionAnswer(
                question=question,
                answer=None if error else text,
                confidence=None if error else confidence,
                error=error or None,
            )
            for question, (text, confidence, error) in zip(questions, reply.answers, strict=True)
        ],
    )


def _add_model(router: APIRouter, parts: ServerParts) -> None:
    async def model() -> ServedModel:
        source = parts.reloader.source
        return ServedModel(name=source.name, version=source.version)

    async def reload(request: Request) -> ReloadResult:
        if not parts.admins:
            detail = (
                "reloading over HTTP is off: set ABO_VQA_ADMIN_KEYS and start the server again, or "
                "send its process SIGHUP"
            )
            raise ProblemError(404, "not-found", detail)
        parts.admins.check(request.headers)
        result = await parts.reloader.reload()
        served = ServedModel(name=result.source.name, version=result.source.version)
        return ReloadResult(model=served, changed=result.changed)

    router.add_api_route(
        "/v1/model", model, response_model=ServedModel, summary="The model", tags=["answers"]
    )
    router.add_api_route(
        RELOAD,
        reload,
        methods=["POST"],
        response_model=ReloadResult,
        responses=_problems(401, 404, 409),
        openapi_extra={"security": [{"bearer": []}]},
        summary="Look the model up again, and serve it without a restart if it has changed",
        tags=["operation"],
    )


def _add_probes(router: APIRouter, parts: ServerParts) -> None:
    async def health() -> ServerStatus:
        """Whether the process works; if not, it should be started again."""
        if not parts.pool.is_alive():
            raise ProblemError(503, "queues-lost", "the process with the queues has gone")
        return ServerStatus(status="ok")

    async def ready() -> ServerStatus:
        """Whether the model is loaded and requests are taken."""
        if parts.pool.draining:
            raise ProblemError(503, "stopping", "the server is stopping")
        if not parts.pool.is_ready():
            raise ProblemError(503, "loading", "the model isn't loaded yet")
        return ServerStatus(status="ready")

    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(parts.metrics.text(), media_type=METRICS_TYPE)

    async def index() -> JSONResponse:
        return JSONResponse({"ask": f"POST {ANSWERS}", "description": "/openapi.json"})

    for path, probe in (("/health", health), ("/ready", ready)):
        router.add_api_route(
            path, probe, response_model=ServerStatus, responses=_problems(503), tags=["probes"]
        )
    router.add_api_route("/metrics", metrics, response_class=PlainTextResponse, tags=["operation"])
    router.add_api_route("/", index, include_in_schema=False)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe errors for OpenAPI."""
    other = {
        404: "reloading over HTTP is off: no ABO_VQA_ADMIN_KEYS",
        409: "the new model can't be loaded",
    }
    return {
        status: {
            "description": _PROBLEMS.get(status) or other[status],
            "model": ProblemDetails,
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}},
            },
        }
        for status in statuses
    }


def _security(keys: KeyRing) -> list[dict[str, list[str]]]:
    return [{"bearer": []}, {"header": []}] if keys else []


def _request_body() -> dict[str, Any]:
    """Describe both forms of a request for OpenAPI."""
    file = {"type": "string", "format": "binary", "description": "the image file"}
    repeated = {"type": "array", "minItems": 1, "items": {"type": "string"}}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": file,
            "question": {**repeated, "description": "one or several, a field each"},
            "questions": {**repeated, "description": "another name of `question`"},
        },
        "anyOf": [{"required": ["question"]}, {"required": ["questions"]}],
    }
    return {
        "required": True,
        "content": {
            "application/json": {"schema": AnswerRequest.model_json_schema()},
            "multipart/form-data": {"schema": form},
        },
    }
