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
    from pydantic_core import ErrorDetails
    from starlette.datastructures import FormData
    from starlette.requests import Request

    from abo_vqa.core.serve_config import ServeConfig

_JSON, _FORM = "application/json", "multipart/form-data"
_FETCHERS = 8  # images that are fetched at the same time
_MAX_ERRORS = 10  # fields that a problem lists
_QUESTION = "question"
_FORM_FIELDS = {"image", _QUESTION, f"{_QUESTION}s"}


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
        """Refuse too many questions, and too long ones."""
        most, longest = self._settings.max_questions, self._settings.max_question_chars
        errors = [
            FieldProblem(
                field=f"questions.{i}",
                message=f"{len(question):,} characters; at most {longest:,} are allowed",
            )
            for i, question in enumerate(questions)
            if len(question) > longest
        ]
        kind = "question-too-long"
        if len(questions) > most:
            kind = "too-many-questions"
            message = f"found {len(questions):,}; at most {most:,} are allowed"
            errors.insert(0, FieldProblem(field="questions", message=message))
        if errors:
            raise _refusal(kind, errors)

    async def image(self, parsed: ParsedRequest) -> bytes:
        """Return a request's image, as bytes; it isn't decoded yet.

        Args:
            parsed: the request.

        Raises:
            ProblemError: there is none, or it mustn't be read.
        """
        # Slow hosts mustn't occupy the threads that everything else needs.
        text = parsed.image if isinstance(parsed.image, str) else ""
        is_url = text.strip()[:8].lower().startswith(("http://", "https://"))
        if is_url and not self._settings.fetch_urls:
            raise ProblemError(
                422,
                "image",
                "URLs aren't fetched by this server: send the image itself, in base64 or as a "
                "form's file. Its operator allows URLs with serve.fetch_urls in params.yaml",
            )
        pool = self._fetchers if is_url else None
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
        errors = [_field_problem(detail) for detail in details]
        hint = "The fields are image and questions (a list), or question (a single one)."
        raise _refusal("request", errors, hint) from error
    return ParsedRequest(request.image, tuple(request.questions))


def _field_problem(detail: ErrorDetails) -> FieldProblem:
    """Return what pydantic found wrong with a field."""
    field = ".".join(map(str, detail["loc"])) or "body"
    if detail["type"] != "extra_forbidden":
        return FieldProblem(field=field, message=detail["msg"])
    both = field == "question"  # alone, it would have been taken
    message = "send either question or questions" if both else "there is no such field"
    return FieldProblem(field=field, message=message)


def _refusal(kind: str, errors: list[FieldProblem], hint: str = "") -> ProblemError:
    """Return the refusal of a request with wrong fields, whose detail lists all of them."""
    listed = "; ".join(f"{error.field}: {error.message}" for error in errors[:_MAX_ERRORS])
    more = f"; and {len(errors) - _MAX_ERRORS:,} more" if len(errors) > _MAX_ERRORS else ""
    detail = f"{listed}{more}" + (f". {hint}" if hint else "")
    return ProblemError(422, kind, detail, errors[:_MAX_ERRORS])


async def _from_fields(form: FormData) -> ParsedRequest:
    """Read a form: a file (or text) called image, and fields called question or questions.

    Raises:
        ProblemError: one of them is missing, or there are others.
    """
    images = form.getlist("image")
    asked = [*form.getlist(_QUESTION), *form.getlist(f"{_QUESTION}s")]
    questions = [value for value in asked if isinstance(value, str)]
    wrong = dict.fromkeys(sorted(set(form) - _FORM_FIELDS), "there is no such field")
    if len(images) != 1:
        wrong["image"] = f"found {len(images)} images; send one" if images else "Field required"
    if not asked:
        wrong[_QUESTION] = "Field required"
    elif len(questions) < len(asked):
        wrong[_QUESTION] = "found a file; send the text"
    if wrong:
        errors = [FieldProblem(field=name, message=message) for name, message in wrong.items()]
        hint = "A form's fields are image (a file) and question (one or several)."
        raise _refusal("request", errors, hint)
    (image,) = images
    content = await image.read() if isinstance(image, UploadFile) else image
    return ParsedRequest(content, tuple(questions))
