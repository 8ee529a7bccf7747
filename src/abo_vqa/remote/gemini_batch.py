"""Gemini's batch jobs: one key's calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from google.genai import types
from pydantic import BaseModel

from abo_vqa.remote.batch_lines import parse_results
from abo_vqa.remote.contract import BatchState, Reply, Request
from abo_vqa.remote.errors import (
    InvalidKeyError,
    ResultsGoneError,
    ServiceError,
    UnknownModelError,
)
from abo_vqa.remote.gemini import GeminiClient, request_parts, to_reply
from abo_vqa.remote.http_errors import to_service_error

_Result = TypeVar("_Result")

_SUCCEEDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"}
_EXPIRED = {"JOB_STATE_EXPIRED", "JOB_STATE_CANCELLED"}
_FAILED = {"JOB_STATE_FAILED"}


class _Status(BaseModel):
    """Why there is no response: google.rpc.Status."""

    code: int = 0
    message: str = ""
    status: str = ""
    details: list[Any] = []


class _Line(BaseModel):
    """One request's result."""

    key: str
    response: types.GenerateContentResponse | None = None
    error: _Status | None = None


class GeminiBatchClient:
    """One key's batch jobs, with typed errors; see `BatchClient`."""

    def __init__(self, client: GeminiClient) -> None:
        """Use the connections of the key's client."""
        self._client, self._sdk = client, client.sdk

    def _call(self, function: Callable[[], _Result]) -> _Result:
        try:
            return function()
        except Exception as error:
            raise self._client.translate(error) from None

    def encode(self, request: Request) -> dict[str, Any]:
        """Return a request as the REST API takes it in a batch file."""
        config = _to_json(self._client.request_config(request))
        del config["systemInstruction"]
        safety = config.pop("safetySettings", None)
        config.pop("automaticFunctionCalling", None)  # the SDK's own business
        parts = [
            {"text": part} if isinstance(part, str) else _to_json(part)
            for part in request_parts(request)
        ]
        body: dict[str, Any] = {
            "contents": [{"role": "user", "parts": parts}],
            "systemInstruction": {"parts": [{"text": request.system}]},
            "generationConfig": config,
        }
        return body | ({"safetySettings": safety} if safety else {})

    def submit(self, label: str, lines: Path) -> str:
        """Upload a file of JSON lines and start a job on it; return the job's name."""
        upload = types.UploadFileConfig(display_name=label, mime_type="jsonl")
        file = self._call(lambda: self._sdk.files.upload(file=str(lines), config=upload))
        config = types.CreateBatchJobConfig(display_name=label)
        job = self._call(
            lambda: self._sdk.batches.create(
                model=self._client.model, src=str(file.name), config=config
            )
        )
        return str(job.name)

    def find(self, label: str) -> str:
        """Return the name of the job with this label, or "" if it was never created."""
        jobs = self._call(lambda: list(self._sdk.batches.list()))
        return next((str(job.name) for job in jobs if job.display_name == label), "")

    def state(self, name: str) -> BatchState:
        """Return the state of a job."""
        job = self._call(lambda: self._sdk.batches.get(name=name))
        state = job.state.value if job.state else "JOB_STATE_UNSPECIFIED"
        message = self._client.redact((job.error.message if job.error else "") or "")
        file = (job.dest.file_name if job.dest else "") or ""
        if state in _SUCCEEDED and file:
            return BatchState("succeeded", state, file)
        if state in _SUCCEEDED | _FAILED:
            return BatchState("failed", state, message=message)
        # Pending, running, being cancelled, or a state that is newer than this code.
        return BatchState("expired" if state in _EXPIRED else "running", state, file, message)

    def cancel(self, name: str) -> None:
        """Ask the vendor to end a job; see `BatchClient`."""
        self._call(lambda: self._sdk.batches.cancel(name=name))

    def results(self, file: str) -> Iterator[tuple[str, Reply | ServiceError]]:
        """Yield the key and the reply (or the error) of each line of a file with results."""
        try:
            data = self._call(lambda: self._sdk.files.download(file=file))
        except (UnknownModelError, InvalidKeyError) as error:
            # "You do not have permission to access the File … or it may not exist."
            if isinstance(error, InvalidKeyError) and "may not exist" not in str(error):
                raise
            raise ResultsGoneError(str(error)) from None
        for line in parse_results(data, _Line):
            if line.response:
                yield line.key, to_reply(line.response)
            else:
                yield line.key, self._line_error(line.error or _Status())

    def _line_error(self, error: _Status) -> ServiceError:
        typed = to_service_error(error.code, error.status, error.message, error.details)
        return typed.redacted(self._client.redact)


def _to_json(value: Any) -> dict[str, Any]:  # one of the SDK's Pydantic models
    return dict(value.model_dump(mode="json", by_alias=True, exclude_none=True))
