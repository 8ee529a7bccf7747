"""Servers of chat completions that don't work: how soon that is noticed, and what is said."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, journal_entries, make, vqa
from tests.support.openai_annotation import MODEL, openai_settings
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(("images", "asked"), [(1, 1), (40, 15)])
def test_a_server_that_asks_for_more_than_patience_ends_the_run(
    here: Path, server: OpenAIServer, images: int, asked: int
) -> None:
    make(here, images)
    server.plan("*", *["503_tomorrow"] * 100)
    begin = time.monotonic()
    with pytest.raises(RetryLaterError, match=r"asks to wait until 20.*patience_s \(600\).*503"):
        run(openai_settings(server, concurrency=4))
    assert time.monotonic() - begin < 20
    assert len(server.generated()) <= asked
    server.plan("*")
    run(openai_settings(server))
    assert len(vqa(here)) == 3 * images


def test_other_images_are_asked_about_before_a_long_wait_ends_the_run(
    here: Path, server: OpenAIServer
) -> None:
    make(here, 6)
    server.plan("product 2", "503_tomorrow")
    with pytest.raises(RetryLaterError, match="1 images are open and everything is saved"):
        run(openai_settings(server, concurrency=1))
    assert len(journal_entries(here, annotator="openai", model=MODEL)) == 5


def test_patience_ends_a_wait_that_is_shorter(here: Path, server: OpenAIServer) -> None:
    make(here, 1)
    server.delay = 5  # of Retry-After
    server.plan("*", *["503_later"] * 100)
    begin = time.monotonic()
    with pytest.raises(RetryLaterError, match="no answer for 6 s"):
        run(openai_settings(server, patience_s=6))
    assert 6 <= time.monotonic() - begin < 9.9, "the second wait was sat out"


def test_a_server_that_is_not_there_is_named_soon(
    here: Path, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 60)
    address = f"http://127.0.0.1:{closed_port}/v1"
    config = configure(here, annotator="openai", model=MODEL, base_url=address)
    begin = time.monotonic()
    with pytest.raises(RetryLaterError) as error:
        run(config)
    assert time.monotonic() - begin < 20
    for part in (address, "Connection refused", "start the server, or correct generate.base_url"):
        assert part in str(error.value)
    assert "no answer: APIConnectionError: Connection error ([Errno" in capsys.readouterr().err


@pytest.mark.parametrize("annotator", ["gemini", "gemini-legacy"])
def test_the_other_protocols_name_an_address_without_a_server(
    here: Path, closed_port: int, annotator: str
) -> None:
    make(here, 2)
    address = f"http://127.0.0.1:{closed_port}"
    with pytest.raises(RetryLaterError, match=f"nothing answers.*refused.*{address}"):
        run(configure(here, annotator=annotator, base_url=address, attempts=2))


def test_a_batch_job_for_a_server_that_is_not_there(here: Path, closed_port: int) -> None:
    make(here, 2)
    address = f"http://127.0.0.1:{closed_port}/v1"
    config = configure(here, annotator="openai", model=MODEL, base_url=address, batch=True)
    with pytest.raises(RetryLaterError, match=r"nothing answers.*start the server"):
        run(config)


def test_a_quota_of_nothing_stops_the_run(here: Path, server: OpenAIServer) -> None:
    make(here, 4)
    server.plan("*", *["no_quota"] * 50)
    with pytest.raises(UserError, match=f"no free quota for generate.model {MODEL!r}"):
        run(openai_settings(server, concurrency=1))
    assert len(server.generated()) == 1


def test_a_request_that_never_fits_the_quota_is_not_repeated(
    here: Path, server: OpenAIServer
) -> None:
    make(here, 30)
    server.plan("*", *["too_large"] * 50)
    with pytest.raises(UserError, match=r"Limit 300, Requested 1324.*lower image_size"):
        run(openai_settings(server, concurrency=1))
    assert len(server.generated()) == 5
    server.plan("*")
    run(openai_settings(server))
    assert len(vqa(here)) == 90


def test_an_error_as_text_is_no_reply(
    here: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 2)
    server.plan("*", "text_error")
    run(openai_settings(server, concurrency=1))
    assert len(vqa(here)) == 6
    entries = journal_entries(here, annotator="openai", model=MODEL)
    assert [entry.finish for entry in entries] == ["STOP", "STOP"]
    assert "no answer: Model is loading, try again. Trying again" in capsys.readouterr().err


def test_an_address_that_is_no_service_stops_the_run(here: Path, server: OpenAIServer) -> None:
    make(here, 4)
    server.plan("*", *["no_endpoint"] * 50)
    with pytest.raises(UserError, match="Unexpected endpoint or method"):
        run(openai_settings(server, concurrency=1))
    assert len(server.generated()) == 1
