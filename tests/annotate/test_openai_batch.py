"""Batch jobs through chat completions."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.core.errors import UserError
from abo_vqa.remote.batch_jobs import BatchJobFile
from abo_vqa.remote.journal_files import journal_paths
from abo_vqa.stages.generate import run
from tests.support.annotation import journal_entries, make, products, vqa
from tests.support.openai_annotation import MODEL, openai_settings
from tests.support.servers.gemini import Call
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


def test_a_job_whose_results_are_deleted_is_asked_again(
    here: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 4)
    server.batch_fault = "gone"
    server.on_call = lambda _: setattr(
        server, "batch_fault", "gone" if len(server.batches) < 2 else ""
    )
    config = openai_settings(server, batch=True, price_input=1.0)
    run(config)
    assert len(vqa(here)) == 12
    assert len(server.batches) == 2
    assert "are gone (HTTP 404" in capsys.readouterr().err
    # What the first one may have cost still counts.
    (job,) = BatchJobFile.load(annotations_folder(config.generate) / "main.jobs").jobs
    assert job.given_up
    assert job.cost > 0
    make(here, 5)
    run(config)  # looks for its results once more, and goes on without them
    assert len(server.batches) == 3
    assert "are gone" not in capsys.readouterr().err


def test_results_that_are_always_deleted_are_not_paid_for_again_and_again(
    here: Path, server: OpenAIServer
) -> None:
    make(here, 2)
    server.batch_fault = "gone"
    with pytest.raises(UserError, match="3 batch jobs in a row"):
        run(openai_settings(server, batch=True))
    assert len(server.batches) == 3


def test_nothing_that_is_uploaded_is_taken_for_a_journal(here: Path, server: OpenAIServer) -> None:
    """A kill at that moment would leave it, and every later run would fail."""
    make(here, 4)
    config = openai_settings(server, batch=True)
    folder = annotations_folder(config.generate)
    journals: list[str] = []

    def note_journals(call: Call) -> None:
        if call.path == "/v1/files":
            journals.extend(path.name for path in journal_paths(folder))

    server.on_call = note_journals
    run(config)
    assert journals == ["main.jsonl"]
    assert len(vqa(here)) == 12


def test_jobs_that_expire_without_an_answer_are_not_submitted_for_ever(
    here: Path, server: OpenAIServer
) -> None:
    make(here, 4)
    server.batch_fault, server.expired_share = "expired", 0.0
    with pytest.raises(UserError, match="3 batch jobs in a row ended as expired"):
        run(openai_settings(server, batch=True))
    assert len(server.batches) == 3
    server.batch_fault = ""
    run(openai_settings(server, batch=True))
    assert len(vqa(here)) == 12


def test_jobs_that_expire_in_the_middle_go_on(here: Path, server: OpenAIServer) -> None:
    make(here, 16)
    server.batch_fault = "expired"
    with pytest.raises(UserError, match="3 batch jobs in a row"):  # a single image's half is none
        run(openai_settings(server, batch=True))
    entries = journal_entries(here, annotator="openai", model=MODEL)
    assert [entry.image_path for entry in entries] == [row["image_path"] for row in products(15)]
    assert len(server.batches) == 4 + 3


def test_why_jobs_failed_is_one_sentence(here: Path, server: OpenAIServer) -> None:
    make(here, 3)
    server.batch_fault = "failed"
    with pytest.raises(UserError, match=r"ended as failed: The file is invalid\. See the vendor's"):
        run(openai_settings(server, batch=True))


@pytest.mark.parametrize("how", ["", "expired"])
def test_batch_jobs_end_in_the_same_table(here: Path, server: OpenAIServer, how: str) -> None:
    make(here, 6)
    run(openai_settings(server, temperature=0.0))
    online = vqa(here)
    server.calls.clear()
    server.batch_fault = how
    server.plan("product 5", "500")

    def mended(call) -> None:
        server.batch_fault = "" if len(server.batches) > 2 else how

    server.on_call = mended
    run(openai_settings(server, temperature=0.4, batch=True, batch_images=3))
    assert vqa(here) == online
    assert not server.generated()
    assert len(server.batches) > 2
    paid = [e.image_path for e in journal_entries(here, annotator="openai", model=MODEL)
            if e.usage.input]  # fmt: skip
    assert len(paid) == len(set(paid)) == 6


@pytest.mark.parametrize("refuses", [("temperature",), ("json_schema", "temperature")])
def test_a_parameter_that_a_job_is_refused_for_is_no_images_fault(
    here: Path, server: OpenAIServer, refuses: tuple[str, ...]
) -> None:
    make(here, 4)
    server.refuses = refuses
    run(openai_settings(server, batch=True, batch_images=2, batch_poll_s=0.05))
    assert len(vqa(here)) == 12
    assert len(server.batches) <= 2 * (1 + len(refuses))


@pytest.mark.parametrize(
    ("path", "code"),
    [("/v1/files", 404), ("/v1/files", 405), ("/v1/batches", 404), ("/v1/batches", 501)],
)
def test_a_server_without_batch_jobs(
    here: Path, server: OpenAIServer, path: str, code: int
) -> None:
    make(here, 2)
    server.unknown_path, server.unknown_code = path, code
    config = openai_settings(server, batch=True, patience_s=0.5)
    with pytest.raises(UserError, match="this server has no batch jobs") as caught:
        run(config)
    assert "set generate.batch: false" in str(caught.value)
    assert f"generate.base_url, too: it is {server.url}" in str(caught.value)
    assert not BatchJobFile.load(annotations_folder(config.generate) / "main.jobs").jobs
    run(openai_settings(server))
    assert len(vqa(here)) == 6


def test_an_address_without_v1(here: Path, server: OpenAIServer) -> None:
    make(here, 2)
    for batch in (False, True):
        address = server.url.removesuffix("/v1")
        with pytest.raises(UserError, match="for most servers it ends in /v1") as caught:
            run(openai_settings(server, base_url=address, batch=batch))
        blamed = f"generate.base_url, too: it is {address};"
        if not batch:  # nothing is known of the model
            blamed = f"generate.base_url: the server at {address} has nothing"
        assert blamed in str(caught.value)
