"""Errors as problem details (RFC 9457): one form for whatever goes wrong, without a traceback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from abo_vqa.core.errors import AboVqaError
from abo_vqa.core.log import get_logger

logger = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
"""The content type of all errors."""
_CLIENT_LEFT = 499  # nobody reads it; nginx has the same number in its log


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(examples=["questions.0"])
    message: str = Field(examples=["Input should be a valid string"])


class ProblemDetails(BaseModel):
    """Why a request wasn't answered (RFC 9457)."""

    type: str = Field("about:blank", description="a name for this kind of problem")
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["the image can't be read: cut off or damaged"])
    errors: list[FieldProblem] = Field([], description="the fields at fault, if there are some")


class ProblemError(AboVqaError):
    """A request that isn't answered.

    Args:
        status: the HTTP status.
        kind: a name for metrics and for `type`, such as "overloaded".
        detail: what was found, what is allowed.
        errors: the fields at fault.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.errors, self.headers = list(errors), dict(headers or {})

    def response(self) -> JSONResponse:
        """Return the response that a client gets."""
        return problem_response(self.status, self.kind, self.detail, self.errors, self.headers)


def problem_response(
    status: int,
    kind: str,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return a response with problem details.

    Args:
        status: the HTTP status.
        kind: a name for this kind of problem.
        detail: what is wrong.
        errors: the fields at fault.
        headers: further headers.
    """
    content = ProblemDetails(
        type=f"urn:abo-vqa:problem:{kind}",
        title=_title(status),
        status=status,
        detail=detail,
        errors=list(errors),
    )
    response = JSONResponse(
        content.model_dump(), status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )
    response.headers["X-Problem-Kind"] = kind
    return response


def internal_problem(error: Exception) -> JSONResponse:
    """Log what nobody foresaw, and return a response that doesn't show it.

    Args:
        error: what was raised.
    """
    logger.error("a request failed", exc_info=error)
    return problem_response(500, "internal", "the server failed; its log has the reason")


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def add_problem_handlers(app: FastAPI) -> None:
    """Have an application answer all errors with problem details.

    Args:
        app: the application.
    """

    async def known(_request: Request, error: Any) -> JSONResponse:
        response: JSONResponse = error.response()
        return response

    async def http(_request: Request, error: Any) -> JSONResponse:
        kinds = {404: "not-found", 405: "method-not-allowed"}
        kind = kinds.get(error.status_code, "http")
        return problem_response(error.status_code, kind, str(error.detail), (), error.headers)

    async def left(_request: Request, _error: Any) -> JSONResponse:
        return problem_response(_CLIENT_LEFT, "client-left", "the client closed the connection")

    async def unforeseen(_request: Request, error: Exception) -> JSONResponse:
        return internal_problem(error)

    app.add_exception_handler(ProblemError, known)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, unforeseen)
