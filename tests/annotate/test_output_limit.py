"""Replies that reach the output limit before they hold what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.stages.generate import run
from tests.support.annotation import journal_entries, make, vqa
from tests.support.openai_annotation import MODEL, openai_settings
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


def test_replies_that_are_all_cut_off_stop_the_run(here: Path, server: OpenAIServer) -> None:
    make(here, 40)
    server.plan("*", *["one_pair"] * 300)
    with pytest.raises(UserError) as error:
        run(openai_settings(server, concurrency=1))
    assert "5 images in a row got fewer pairs than asked for: too_few (MAX_TOKENS)" in str(
        error.value
    )
    assert "Raise generate.max_output_tokens (1024)" in str(error.value)
    assert len(server.generated()) == 5
    entries = journal_entries(here, annotator="openai", model=MODEL)
    assert [len(entry.pairs) for entry in entries] == [1] * 5  # paid for, and kept
    server.plan("*")
    run(openai_settings(server))
    assert len(vqa(here)) == 120


def test_batch_jobs_whose_replies_are_cut_off_stop_the_run(
    here: Path, server: OpenAIServer
) -> None:
    make(here, 40)
    server.plan("*", *["one_pair"] * 300)
    with pytest.raises(UserError, match=r"fewer pairs than asked for.*max_output_tokens"):
        run(openai_settings(server, batch=True))
    assert len(server.batches) == 1


def test_an_image_is_not_asked_about_again_for_what_it_has(
    here: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 6)
    server.plan("product 2", *["one_pair"] * 10)
    run(openai_settings(server, concurrency=1, attempts=9))
    assert len(vqa(here)) == 15
    assert len(server.generated("one_pair")) == 3  # its pair, and twice nothing new
    message = capsys.readouterr().err
    assert "1 images got fewer pairs than asked for: too_few (MAX_TOKENS)" in message
    assert "Raise generate.max_output_tokens (1024)" in message
    asked = len(server.generated())
    run(openai_settings(server, attempts=9))
    assert len(server.generated()) == asked


def test_a_cut_off_reply_now_and_then_costs_one_more(here: Path, server: OpenAIServer) -> None:
    make(here, 12)
    for number in range(0, 12, 2):
        server.plan(f"product {number}", "one_pair")
    run(openai_settings(server, concurrency=1))
    assert len(vqa(here)) == 36
    assert len(server.generated()) == 12 + 6
