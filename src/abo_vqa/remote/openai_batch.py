"""OpenAI's batch jobs: one key's calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import openai
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ValidationError

from abo_vqa.core.files import atomic_write
from abo_vqa.remote.batch_lines import parse_results
from abo_vqa.remote.contract import BatchState, Reply, Request
from abo_vqa.remote.errors import (
    BatchQueueFullError,
    NoBatchJobsError,
    RefusedThinkingError,
    ResultsGoneError,
    ServiceError,
    UnknownModelError,
    UnknownParameterError,
)
from abo_vqa.remote.openai_client import OpenAIClient
from abo_vqa.remote.openai_dialect import from_parameter_names, parameter_names
from abo_vqa.remote.openai_errors import error_from_body, error_message, error_parameter

_Result = TypeVar("_Result")

_ENDED = {"completed": "succeeded", "expired": "expired", "cancelled": "expired"}
_NO_SUCH_PATH = (404, 405, 501)
_UNASKED = {"batch_expired", "batch_cancelled"}  # requests that a job didn't get to before it ended
# "Enqueued token limit reached for … Limit: 90,000 enqueued tokens. Please try again once some
# in_progress batches have been completed."
_QUEUE_FULL = re.compile(r"token_limit_exceeded|enqueued|in_progress batches", re.IGNORECASE)


class _Response(BaseModel):
    status_code: int = 0
    body: dict[str, Any] | None = None


class _Line(BaseModel):
    """One request's result: a response, with whatever status, or why there is none."""

    custom_id: str
    response: _Response | None = None
    error: dict[str, Any] | None = None


class OpenAIBatchClient:
    """One key's batch jobs, with typed errors; see `BatchClient`."""

    def __init__(self, client: OpenAIClient) -> None:
        """Use the connections of the key's client."""
        self._client, self._sdk = client, client.sdk
        self._sent: dict[str, dict[str, Any]] = {}  # files with results → parameters of their job

    def _call(self, function: Callable[[], _Result]) -> _Result:
        try:
            return function()
        except Exception as error:
            raise self._client.translate(error) from None

    def _create(self, function: Callable[[], _Result]) -> _Result:
        """Call a function of the SDK that creates a file or a job.

        Raises:
            NoBatchJobsError: the server doesn't know the path.
            BatchQueueFullError: too much is queued.
        """
        try:
            return function()
        except Exception as error:
            typed = self._client.translate(error)
            if isinstance(error, openai.APIStatusError) and error.status_code in _NO_SUCH_PATH:
                raise NoBatchJobsError(str(typed)) from None
            if _QUEUE_FULL.search(str(typed)):
                raise BatchQueueFullError(str(typed), typed.delay) from None
            raise typed from None

    def encode(self, request: Request) -> dict[str, Any]:
        """Return a request's body as a chat completion takes it."""
        return self._client.body(request)

    def submit(self, label: str, lines: Path) -> str:
        """Upload a file of JSON lines and start a job on it; return the job's name."""
        upload = lines.with_suffix(".openai.tmp")  # a kill may leave it: *.jsonl are journals
        try:
            names = _write_requests(lines, upload)
            with upload.open("rb") as content:
                named = ("requests.jsonl", content)  # the vendor looks at the ending
                file = self._create(lambda: self._sdk.files.create(file=named, purpose="batch"))
        finally:
            upload.unlink(missing_ok=True)
        job = self._create(
            lambda: self._sdk.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"label": label, "parameters": " ".join(names)},
            )
        )
        return str(job.id)

    def find(self, label: str) -> str:
        """Return the name of the job with this label, or "" if it was never created."""

        def search() -> str:
            # Newest first, a page at a time: an account may have thousands.
            jobs = self._sdk.batches.list(limit=100)
            return next((job.id for job in jobs if (job.metadata or {}).get("label") == label), "")

        return self._call(search)

    def state(self, name: str) -> BatchState:
        """Return the state of a job."""
        job = self._call(lambda: self._sdk.batches.retrieve(name))
        # Replies and failed requests are in a file each; either may be missing.
        files = ",".join(filter(None, (job.output_file_id, job.error_file_id)))
        names = (job.metadata or {}).get("parameters", "").split()
        self._sent[files] = from_parameter_names(names)
        problems = (job.errors and job.errors.data) or []
        message = "; ".join(self._client.redact(problem.message or "") for problem in problems)
        if job.status == "failed":
            full = any(_QUEUE_FULL.search(f"{p.code} {p.message}") for p in problems)
            return BatchState("refused" if full else "failed", job.status, message=message)
        if job.status == "validating":
            return BatchState("waiting", job.status)
        phase = _ENDED.get(job.status)
        if phase == "succeeded" and files:
            return BatchState("succeeded", job.status, files, message)
        if phase == "succeeded":
            return BatchState("failed", job.status, message=message or "it has no results")
        return BatchState("expired" if phase else "running", job.status, files, message)

    def cancel(self, name: str) -> None:
        """Ask the vendor to end a job."""
        self._call(lambda: self._sdk.batches.cancel(name))

    def results(self, file: str) -> Iterator[tuple[str, Reply | ServiceError]]:
        """Yield the key and the reply (or the error) of each line of the files with results.

        All files are downloaded first. One that the vendor has deleted doesn't hold up the others'
        replies, which are paid for.
        """
        sent = self._sent.get(file, {})
        contents: list[bytes] = []
        gone: ResultsGoneError | None = None
        for name in file.split(","):
            try:
                contents.append(self._content(name))
            except ResultsGoneError as error:
                gone = error
        for line in parse_results(b"\n".join(contents), _Line):
            if result := self._result(line, sent):
                yield line.custom_id, result
        if gone:
            raise gone

    def _content(self, file: str) -> bytes:
        try:
            return self._call(lambda: self._sdk.files.content(file).read())
        except UnknownModelError as error:  # HTTP 404, here of a file
            raise ResultsGoneError(str(error)) from None

    def _result(self, line: _Line, sent: Mapping[str, Any]) -> Reply | ServiceError | None:
        """Return one line's reply or error; None for a request that was never answered."""
        error, response = line.error or {}, line.response or _Response()
        if error.get("code") in _UNASKED:
            return None
        body, code = response.body or {}, response.status_code
        if code == 200:
            try:
                return self._client.to_reply(_to_completion(body))
            except ServiceError as failure:
                return failure
        given = body or error
        message, parameter = error_message(given), error_parameter(given)
        failed = error_from_body(code or 500, given).redacted(self._client.redact)
        may_adapt = code in (400, 422) and sent and not isinstance(failed, RefusedThinkingError)
        if may_adapt and self._client.dialect.adapt(sent, parameter, message):
            return UnknownParameterError(message).redacted(self._client.redact)
        return failed


def _to_completion(body: Mapping[str, Any]) -> ChatCompletion | None:
    """Return a completion as the SDK's own object, or None if it isn't one."""
    try:
        return ChatCompletion.model_validate(body)
    except ValidationError:
        return None


def _write_requests(lines: Path, upload: Path) -> list[str]:
    """Write the lines of a batch file as OpenAI takes them; return their parameters' names."""
    names: list[str] = []
    with (
        atomic_write(upload) as temporary,
        lines.open(encoding="utf-8") as source,
        temporary.open("w", encoding="utf-8") as target,
    ):
        for line in source:
            item = json.loads(line)
            request = {
                "custom_id": item["key"],
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": item["request"],
            }
            names = names or parameter_names(item["request"])
            target.write(json.dumps(request, ensure_ascii=False) + "\n")
    return names
