"""The vendor's limit on what may be queued in batch jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.annotate.batch_mode.queue_limit import QueueLimit
from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.core.errors import RetryLaterError
from abo_vqa.remote.batch_jobs import BatchJob, BatchJobFile
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, journal_entries, make, vqa
from tests.support.openai_annotation import MODEL, openai_settings
from tests.support.servers.gemini import Call, GeminiServer
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    openai_server.batch_polls = 3
    return openai_server


def refused(server: OpenAIServer) -> int:
    return sum(job["full"] for job in server.batches.values())


@pytest.mark.parametrize("refuses_creation", [False, True])
@pytest.mark.parametrize("lines", [2, 5])
def test_a_full_queue_is_waited_for(
    here: Path,
    server: OpenAIServer,
    capsys: pytest.CaptureFixture[str],
    lines: int,
    refuses_creation: bool,
) -> None:
    make(here, 10)
    server.queue_lines, server.refuses_creation = lines, refuses_creation
    run(openai_settings(server, batch=True, batch_images=2))
    assert len(vqa(here)) == 30
    entries = journal_entries(here, annotator="openai", model=MODEL)
    assert len({entry.image_path for entry in entries}) == len(entries) == 10
    assert len(server.batches) - refused(server) == 5  # jobs keep their size
    assert refused(server) <= 2
    warnings = capsys.readouterr().err
    assert warnings.count("queue of batch jobs is full: the next job starts when one has") == 1
    assert "Limit: 90,000 enqueued tokens" in warnings


@pytest.mark.parametrize("refuses_creation", [False, True])
def test_jobs_that_are_larger_than_the_queue_become_smaller(
    here: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str], refuses_creation: bool
) -> None:
    make(here, 10)
    server.queue_lines, server.refuses_creation = 3, refuses_creation
    run(openai_settings(server, batch=True, batch_images=8))
    assert len(vqa(here)) == 30
    warnings = capsys.readouterr().err
    assert "jobs have 4 from now on (generate.batch_images)" in warnings
    assert "jobs have 2 from now on (generate.batch_images)" in warnings


def test_a_queue_that_others_fill_is_for_later(here: Path, server: OpenAIServer) -> None:
    make(here, 4)
    server.queue_lines = 0
    config = openai_settings(server, batch=True, batch_images=2)
    with pytest.raises(RetryLaterError, match=r"no room for a single image.*run it again later"):
        run(config)
    assert not BatchJobFile.load(annotations_folder(config.generate) / "main.jobs").jobs
    server.queue_lines = None
    run(config)
    assert len(vqa(here)) == 12


def test_jobs_on_trial(tmp_path: Path) -> None:
    """As many again as the vendor has taken on: a full queue refuses few, not all of a run's."""
    jobs = BatchJobFile(tmp_path / "jobs.json")
    limit = QueueLimit(jobs, 1000)
    started = []
    for _ in range(3):
        number = 0
        while limit.allows("k"):
            jobs.add(BatchJob(f"job {len(jobs.jobs)}", "k", {"a.jpg": "a"}, 0.0))
            limit.record_start(jobs.jobs[-1])
            number += 1
        started.append(number)
        for job in jobs.jobs:
            limit.record_running(job)
    assert started == [2, 2, 4]
    assert limit.allows("another key")


def test_a_full_queue_is_tried_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs in it may be other people's, whose end nobody tells."""
    jobs = BatchJobFile(tmp_path / "jobs.json")
    limit = QueueLimit(jobs, 1000)
    running, other = (BatchJob(name, "k", {"a.jpg": "a"}, 0.0) for name in ("one", "two"))
    for job in (running, other):
        jobs.add(job)
        limit.record_start(job)
    limit.record_running(running)
    jobs.remove(other)
    limit.record_refusal(other, "full")
    assert not limit.allows("k")
    with monkeypatch.context() as patch:
        patch.setattr("abo_vqa.annotate.batch_mode.queue_limit.RETRY_S", 0.0)
        limit.record_refusal(other, "full")
    assert limit.allows("k")
    limit.record_refusal(other, "full", delay=100.0)
    assert not limit.allows("k")
    limit.record_end(running)
    assert limit.allows("k")


def test_a_job_that_google_refuses_to_create_waits_for_another(here: Path) -> None:
    """Each try uploads the whole job again."""
    make(here, 6)
    polls: list[int] = []

    def note_polls(call: Call) -> None:
        if call.path.endswith(":batchGenerateContent"):
            first = server.batches.get("batches/job0", {"polls": 0})
            polls.append(first["polls"])

    with GeminiServer(batch_polls=5) as server:
        server.on_call = note_polls
        server.plan("batch", "", "minute_bare")
        run(configure(here, annotator="gemini", base_url=server.url, batch=True, batch_images=2))
    assert len(vqa(here)) == 18
    assert polls[:2] == [0, 0]
    assert polls[2] == 5
    assert len(polls) == 4
