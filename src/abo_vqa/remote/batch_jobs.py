"""Batch jobs at the vendor's: their record on disk, their requests, and one key's calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.remote.contract import Request
from abo_vqa.remote.gemini import Gemini, contents
from abo_vqa.remote.keys import redact


@dataclass
class Job:
    """A batch job.

    Attributes:
        label: its display name, chosen by us before it exists.
        key: the id of the key that it belongs to. name: the vendor's name, once known.
        images: the paths asked about, each with its task's key. cost: USD at most.
    """

    label: str
    key: str
    images: dict[str, str]
    cost: float
    name: str = ""


@dataclass
class Record:
    """The jobs under way, on disk."""

    path: Path
    jobs: list[Job] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Record:
        known = read_json(path) if path.is_file() else []
        return cls(path, [Job(**job) for job in known])

    def save(self) -> None:
        write_json([vars(job) for job in self.jobs], self.path)


class Batches:
    """One key's batch jobs, with typed errors."""

    def __init__(self, annotator: Gemini) -> None:
        self.annotator, self.client = annotator, annotator.client

    def call(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except Exception as error:
            raise self.annotator.translated(error) from None

    def submit(self, label: str, lines: Path) -> str:
        """Upload a JSON-lines file and start a job on it; return the job's name."""
        from google.genai import types

        upload = types.UploadFileConfig(display_name=label, mime_type="jsonl")
        file = self.call(lambda: self.client.files.upload(file=str(lines), config=upload))
        config = types.CreateBatchJobConfig(display_name=label)
        job = self.call(
            lambda: self.client.batches.create(
                model=self.annotator.model, src=file.name, config=config
            )
        )
        return str(job.name)

    def find(self, label: str) -> str:
        """The name of the job with this label, or "" if it was never created."""
        jobs = self.call(lambda: list(self.client.batches.list()))
        return next((str(job.name) for job in jobs if job.display_name == label), "")

    def state(self, name: str) -> tuple[str, str, str]:
        """(state, name of the file with the answers or "", what went wrong or "")."""
        job = self.call(lambda: self.client.batches.get(name=name))
        file = job.dest.file_name if job.dest else ""
        said = (job.error.message if job.error else "") or ""
        state = job.state.value if job.state else "JOB_STATE_UNSPECIFIED"
        return state, file or "", redact(said, self.annotator.secrets)

    def answers(self, file: str) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
        """(image path, response or None, error) of each line of an answer file."""
        from google.genai import types

        data = self.call(lambda: self.client.files.download(file=file))
        for line in data.splitlines():
            item = json.loads(line)
            response = item.get("response")
            yield (
                item["key"],
                types.GenerateContentResponse.model_validate(response) if response else None,
                item.get("error") or {},
            )


def rest_request(annotator: Gemini, request: Request) -> dict[str, Any]:
    """A request as the REST API takes it in a batch file."""
    config = annotator.config.model_dump(mode="json", by_alias=True, exclude_none=True)
    safety = config.pop("safetySettings", None)
    config.pop("automaticFunctionCalling", None)  # the SDK's own affair
    parts = []
    for part in contents(request):
        parts.append(
            {"text": part}
            if isinstance(part, str)
            else part.model_dump(mode="json", by_alias=True, exclude_none=True)
        )
    made: dict[str, Any] = {
        "contents": [{"role": "user", "parts": parts}],
        "systemInstruction": {"parts": [{"text": request.system}]},
        "generationConfig": config,
    }
    return made | ({"safetySettings": safety} if safety else {})
