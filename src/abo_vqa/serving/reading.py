"""What a client sent, as an image and questions."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from abo_vqa.data.image_inputs import ImageInputError, ImageInputs
from abo_vqa.data.web_images import WebImages
from abo_vqa.serving.problems import FieldProblem, ProblemError
from abo_vqa.serving.schemas import AnswerRequest

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request

    from abo_vqa.core.serve_config import ServeConfig

_JSON, _FORM = "application/json", "multipart/form-data"
_FETCHERS = 8  # images that are fetched at the same time
_MAX_ERRORS = 10  # fields that a problem lists


@dataclass(frozen=True)
class ParsedRequest:
    """An image, and questions about it.

    Attributes:
        image: bytes, or what says where they are.
        questions: the questions.
    """

    image: bytes | str
    questions: tuple[str, ...]


class RequestReader:
    """Reads requests within the limits.

    Args:
        settings: the limits, and where images may come from.
    """

    def __init__(self, settings: ServeConfig) -> None:
        self._settings = settings
        web = None
        limit = int(settings.max_body_mb * 1e6)
        if settings.fetch_urls:
            web = WebImages(limit, settings.fetch_timeout_s, settings.fetch_networks)
        folder = settings.image_folder
        self._inputs = ImageInputs(
            paths=folder is not None, folder=folder, web=web, max_bytes=limit
        )
        self._fetchers = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch")

    async def parse(self, request: Request) -> ParsedRequest:
        """Read a request's body.

        Args:
            request: the request.

        Raises:
            ProblemError: it isn't one image with questions, or exceeds a limit.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == _JSON:
            parsed = _from_json(await request.body())
        elif kind == _FORM:
            parsed = await self._from_form(request)
        else:
            raise ProblemError(
                415, "media-type", f"found Content-Type {kind or 'none'}; send {_JSON} or {_FORM}"
            )
        self._check(parsed.questions)
        return parsed

    async def _from_form(self, request: Request) -> ParsedRequest:
        try:
            largest = int(self._settings.max_body_mb * 1e6)
            fields = self._settings.max_questions + 1
            async with request.form(max_files=1, max_fields=fields, max_part_size=largest) as form:
                return await _from_fields(form)
        except (HTTPException, MultiPartException) as error:
            reason = getattr(error, "detail", None) or getattr(error, "message", "damaged")
            raise ProblemError(400, "form", f"the form can't be read: {reason}") from error

    def _check(self, questions: tuple[str, ...]) -> None:
        """Refuse too many questions, or too long ones."""
        most, longest = self._settings.max_questions, self._settings.max_question_chars
        if len(questions) > most:
            detail = f"found {len(questions)} questions; at most {most} are allowed"
            raise ProblemError(422, "too-many-questions", detail)
        errors = [
            FieldProblem(
                field=f"questions.{i}",
                message=f"{len(question):,} characters; at most {longest:,} are allowed",
            )
            for i, question in enumerate(questions)
            if len(question) > longest
        ]
        if errors:
            detail = "a question is too long"
            raise ProblemError(422, "question-too-long", detail, errors[:_MAX_ERRORS])

    async def image(self, parsed: ParsedRequest) -> bytes:
        """Return a request's image, as bytes; it isn't decoded yet.

        Args:
            parsed: the request.

        Raises:
            ProblemError: there is none, or it mustn't be read.
        """
        # Slow hosts mustn't occupy the threads that everything else needs.
        text = parsed.image if isinstance(parsed.image, str) else ""
        is_address = text[:8].lower().startswith(("http://", "https://"))
        pool = self._fetchers if is_address else None
        try:
            running = asyncio.get_running_loop()
            return await running.run_in_executor(pool, self._inputs.read, parsed.image)
        except ImageInputError as error:
            raise ProblemError(422, "image", str(error)) from error
        except OSError as error:
            raise ProblemError(422, "image", "the image can't be read") from error


def _from_json(body: bytes) -> ParsedRequest:
    """Read a JSON body.

    Raises:
        ProblemError: it isn't JSON, or isn't a request.
    """
    try:
        request = AnswerRequest.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        if details[0]["type"] == "json_invalid":
            raise ProblemError(400, "json", f"the body isn't JSON: {details[0]['msg']}") from error
        errors = [
            FieldProblem(field=".".join(map(str, detail["loc"])) or "body", message=detail["msg"])
            for detail in details[:_MAX_ERRORS]
        ]
        first = f"{errors[0].field}: {errors[0].message}"
        detail = f"the request isn't as /openapi.json describes it; {first}"
        raise ProblemError(422, "request", detail, errors) from error
    return ParsedRequest(request.image, tuple(request.questions))


async def _from_fields(form: FormData) -> ParsedRequest:
    """Read a form: a file (or text) called image, and fields called question.

    Raises:
        ProblemError: one of them is missing.
    """
    unknown = sorted(set(form) - {"image", "question"})
    questions = [value for value in form.getlist("question") if isinstance(value, str)]
    image = form.get("image")
    if unknown or not questions or image is None:
        what = f"unknown field {unknown[0]!r}" if unknown else "image or question is missing"
        detail = f"{what}: a form has the fields image (a file) and question (one or several)"
        raise ProblemError(422, "request", detail)
    content = await image.read() if isinstance(image, UploadFile) else image
    return ParsedRequest(content, tuple(questions))
