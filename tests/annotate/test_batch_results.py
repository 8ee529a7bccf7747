"""Results of batch jobs that can't be had, or read, at the first try."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.remote.errors import ServiceError
from abo_vqa.remote.openai_batch import OpenAIBatchClient
from abo_vqa.stages.generate import run
from tests.support.annotation import journal_entries, make, vqa
from tests.support.openai_annotation import MODEL, openai_settings
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
