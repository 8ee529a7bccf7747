"""Batch jobs that never end, expire or vanish, and those that would be paid for in vain."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.cli import main
from abo_vqa.core.config import Config
from abo_vqa.core.errors import UserError
from abo_vqa.remote.batch_jobs import BatchJobFile
from abo_vqa.stages.generate import run
from tests.support.annotation import KEY, configure, journal_entries, make, vqa
from tests.support.servers.gemini import GeminiServer

SOON_H = 0.2 / 3600


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer() as running:
        yield running


def batch(here: Path, server: GeminiServer, **settings: object) -> Config:
    return configure(here, annotator="gemini", base_url=server.url, batch=True, **settings)


def cancelled(server: GeminiServer) -> int:
    return sum(call.path.endswith(":cancel") for call in server.calls)


@pytest.mark.parametrize("fault", ["job_stalls", "job_is_new"])
def test_job_that_never_ends_is_cancelled_and_asked_again(
    here: Path, server: GeminiServer, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    make(here, 4)
    server.plan("batch", fault)
    run(batch(here, server, batch_deadline_h=SOON_H))
    assert (cancelled(server), len(server.batches)) == (1, 2)
    assert len(vqa(here)) == 12
    assert "generate.batch_deadline_h" in capsys.readouterr().err


def test_what_an_expired_job_has_answered_is_paid_for_once(
    here: Path, server: GeminiServer
) -> None:
    make(here, 6)
    server.plan("batch", "job_expires")
    run(batch(here, server))
    entries = journal_entries(here, annotator="gemini", base_url=server.url, batch=True)
    assert set(Counter(entry.image_path for entry in entries).values()) == {1}
    asked = [server.files[job["input"]].splitlines() for job in server.batches.values()]
    assert [len(lines) for lines in asked] == [6, 3]
    first = {json.loads(line)["key"] for line in server.files["files/out-job0"].splitlines()}
    assert not first & {json.loads(line)["key"] for line in asked[1]}
    assert len(vqa(here)) == 18


def test_job_that_the_vendor_has_forgotten(here: Path, server: GeminiServer) -> None:
    make(here, 3)
    server.plan("batch", "job_vanishes")
    config = batch(here, server, price_input=1.0)
    for _ in range(2):
        run(config)
        assert len(server.batches) == 2
        assert len(vqa(here)) == 9
        path = annotations_folder(config.generate) / "main.jobs"
        assert [job.cost > 0 for job in BatchJobFile.load(path).jobs] == [
            True
        ]  # it may be paid for


def test_job_whose_results_are_deleted_is_asked_again(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(here, 3)
    server.on_call = lambda call: (
        server.files.pop("files/out-job0", None) if call.path.endswith(":download") else None
    )
    config = batch(here, server)
    run(config)
    assert len(server.batches) == 2
    assert len(vqa(here)) == 9
    make(here, 4)
    path = annotations_folder(config.generate) / "main.jobs"
    assert [job.given_up for job in BatchJobFile.load(path).jobs] == [True]
    monkeypatch.setenv("GEMINI_API_KEY", KEY.replace("0", "1"))  # that job's isn't needed any more
    run(config)


def test_job_that_cannot_be_cancelled_is_given_up(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it may cost stays reserved, and once it has ended its results are collected."""
    monkeypatch.setattr("abo_vqa.annotate.batch_mode.deadline.CANCEL_GRACE_S", 0.1)
    make(here, 3)
    server.plan("batch", "job_stuck")
    config = batch(here, server, batch_deadline_h=SOON_H)
    run(config)
    assert len(vqa(here)) == 9
    path = annotations_folder(config.generate) / "main.jobs"
    (job,) = BatchJobFile.load(path).jobs
    assert job.given_up
    assert job.cost > 0
    # More images: the next run looks at it once more.
    server.batches["batches/job0"]["fault"] = ""
    make(here, 4)
    run(config)
    assert BatchJobFile.load(path).jobs == []
    assert len(journal_entries(here, annotator="gemini", base_url=server.url, batch=True)) == 7


def test_jobs_that_expire_again_and_again(here: Path, server: GeminiServer) -> None:
    make(here, 2)
    server.plan("batch", *["job_stalls"] * 9)
    with pytest.raises(
        UserError, match=r"3 batch jobs in a row ended as .*CANCELLED.*batch_images"
    ):
        run(batch(here, server, batch_deadline_h=SOON_H / 2))
    assert len(server.batches) == 3


def test_deadline_counts_from_the_submission(here: Path, server: GeminiServer) -> None:
    """Not from the start of the run that waits; files of former versions lack it."""
    make(here, 2)
    server.plan("batch", "job_stalls")
    server.plan("poll", "400")
    config = batch(here, server, batch_deadline_h=1)
    with pytest.raises(UserError, match="HTTP 400"):
        run(config)
    path = annotations_folder(config.generate) / "main.jobs"
    (record,) = json.loads(path.read_text())
    path.write_text(json.dumps([record | {"submitted": record["submitted"] - 3601}]))
    run(config)
    assert cancelled(server) == 1
    assert main(["generate"]) == 0
    former = {name: record[name] for name in ("label", "key", "images", "cost", "name")}
    path.write_text(json.dumps([former]))
    assert BatchJobFile.load(path).jobs[0].submitted == 0


def test_large_batch_without_pairs_is_never_paid_for(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a job of which all replies were empty, on resume: the first failure more stops it."""
    make(here, 12)
    config = configure(here, annotator="gemini", base_url=server.url, batch=True)
    server.plan("*", *["thoughts"] * 500)
    for batches, asked in ((1, 0), (1, 1), (1, 2)):
        with pytest.raises(UserError, match=r"MAX_TOKENS.*generate\.thinking"):
            run(config)
        assert (len(server.batches), len(server.generated())) == (batches, asked)
    monkeypatch.setattr("abo_vqa.annotate.batch_mode.pilot._LARGE", 10)
    other = configure(
        here, annotator="gemini", base_url=server.url, batch=True, max_output_tokens=2048
    )
    with pytest.raises(UserError, match=r"MAX_TOKENS.*generate\.thinking"):
        run(other)
    assert (len(server.batches), len(server.generated())) == (1, 7)
    server.script.clear()
    run(other)
    assert len(vqa(here)) == 36
    assert (len(server.batches), len(server.generated())) == (2, 12)


def test_batch_goes_on_with_the_other_key(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEYS", f"{KEY},{KEY.replace('0', '1')}")
    make(here, 6)
    server.plan("batch", "no_quota")
    run(configure(here, annotator="gemini", base_url=server.url, batch=True, batch_images=3))
    assert len(vqa(here)) == 18
