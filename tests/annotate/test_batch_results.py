"""Results of batch jobs that can't be had, or read, at the first try."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.openai_batch import OpenAIBatchClient
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, journal_entries, make, vqa
from tests.support.openai_annotation import MODEL, openai_settings
from tests.support.servers.gemini import GeminiServer
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


def test_replies_are_written_once_although_a_download_fails(
    here: Path, openai_server: OpenAIServer
) -> None:
    """The second file, with the failed requests, comes at the third try."""
    make(here, 6)
    openai_server.plan("product 5", "500")
    openai_server.failing_downloads = 2
    run(openai_settings(openai_server, batch=True))
    assert openai_server.failing_downloads == 0
    assert len(vqa(here)) == 18
    entries = journal_entries(here, annotator="openai", model=MODEL)
    assert len(entries) == 7  # six replies and a failure


def test_an_interrupted_collection_writes_nothing_twice(
    here: Path, openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service answers, and the connection breaks among the results."""
    whole = OpenAIBatchClient.results
    breaks = iter([4, 2])

    def broken(client: OpenAIBatchClient, file: str):
        left = next(breaks, None)
        for number, result in enumerate(whole(client, file)):
            if number == left:
                raise ServiceError("broken")
            yield result

    monkeypatch.setattr(OpenAIBatchClient, "results", broken)
    make(here, 6)
    run(openai_settings(openai_server, batch=True))
    assert next(breaks, None) is None
    assert len(journal_entries(here, annotator="openai", model=MODEL)) == len(vqa(here)) / 3 == 6


PATH = "00/00000000.jpg"
LINES = {
    "openai": [
        '{"custom_id": "00/00000',
        json.dumps({"custom_id": PATH, "response": {"status_code": 200, "body": ["text"]}}),
        json.dumps({"custom_id": PATH, "error": "batch_expired"}),
        "null",
    ],
    "gemini": [
        '{"key": "00/00000',
        "[]",
        json.dumps({"key": PATH, "response": {"candidates": 3}}),
        json.dumps({"key": PATH, "error": {"code": "internal"}}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("protocol", LINES)
def test_damaged_lines_are_skipped_and_their_images_asked_again(
    here: Path,
    openai_server: OpenAIServer,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
) -> None:
    make(here, 9)
    with GeminiServer() as gemini:
        if protocol == "openai":
            server, config = openai_server, openai_settings(openai_server, batch=True)
        else:
            server = gemini
            config = configure(here, annotator="gemini", base_url=gemini.url, batch=True)
        server.damaged = list(LINES[protocol])
        run(config)
    assert "4 damaged lines, which are skipped" in capsys.readouterr().err
    assert len(vqa(here)) == 27
    assert len(server.batches) == 2
    settings = {"annotator": protocol, **({"model": MODEL} if protocol == "openai" else {})}
    entries = journal_entries(here, **settings)
    assert len([entry for entry in entries if entry.pairs]) == 9


def test_an_error_in_any_shape_is_an_images_failure(
    here: Path, openai_server: OpenAIServer
) -> None:
    make(here, 4)
    bodies = [{"error": "out of memory"}, {"error": {"message": None}}, {"detail": "busy"}]
    openai_server.damaged = [
        json.dumps({"custom_id": f"{i:02x}/{i:08x}.jpg",
                    "response": {"status_code": 500, "body": body}})
        for i, body in enumerate(bodies)
    ]  # fmt: skip
    run(openai_settings(openai_server, batch=True))
    assert len(vqa(here)) == 12
    problems = [e.problem for e in journal_entries(here, annotator="openai", model=MODEL)]
    assert "failed: HTTP 500 : out of memory" in problems
    assert len([problem for problem in problems if problem]) == 3
