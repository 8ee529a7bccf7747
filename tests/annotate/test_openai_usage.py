"""Budgets and tokens through chat completions: servers may count none."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.core.scratch import scratch
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, journal_entries, make, vqa
from tests.support.openai_annotation import MODEL, openai_settings
from tests.support.servers.gemini import GeminiServer
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


def test_a_budget_is_kept_from_the_first_request_on(here: Path, server: OpenAIServer) -> None:
    make(here, 20)
    with pytest.raises(UserError, match="budget_usd"):
        run(openai_settings(server, budget_usd=0.035, price_input=1.0, price_output=20.0))
    spent = sum(
        entry.usage.input * 1.0 + entry.usage.output * 20.0
        for entry in journal_entries(here, annotator="openai", model=MODEL)
    )
    assert 0 < spent / 1e6 <= 0.035


@pytest.mark.parametrize("batch", [False, True])
def test_a_budget_is_kept_where_the_server_counts_no_tokens(
    here: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str], batch: bool
) -> None:
    """A request may have cost the most that it can: 8,500 tokens and all of its output."""
    make(here, 12)
    server.counts_nothing = True
    most = (8500 * 1.0 + 1024 * 20.0) / 1e6
    paid = {"price_input": 1.0, "price_output": 20.0, "max_output_tokens": 1024}
    changes = {"batch": batch, "batch_price": 1.0, "batch_images": 2, "concurrency": 2}
    with pytest.raises(UserError, match="budget_usd"):
        run(openai_settings(server, budget_usd=4.9 * most, **paid, **changes))
    entries = journal_entries(here, annotator="openai", model=MODEL)
    assert 2 <= len(entries) <= 4
    assert not any(entry.usage.counted for entry in entries)
    assert capsys.readouterr().err.count("doesn't report how many tokens") == 1
    # What is known of counted replies isn't taken from these.
    with pytest.raises(UserError, match="budget_usd"):
        run(openai_settings(server, budget_usd=5.9 * most, **paid, **changes))
    entries = journal_entries(here, annotator="openai", model=MODEL)
    spent = sum(e.usage.input * 1.0 + e.usage.output * 20.0 for e in entries) / 1e6
    assert len(entries) * most <= spent <= 5.9 * most


def test_servers_that_count_no_tokens_are_asked_as_fast(here: Path, server: OpenAIServer) -> None:
    """The most that a request may cost isn't what it is expected to take of the quota."""
    make(here, 6)
    server.counts_nothing = True
    begun = time.monotonic()
    run(openai_settings(server, tokens_per_minute=12_000))
    assert len(vqa(here)) == 18
    assert time.monotonic() - begun < 30


def quota_calls() -> list[tuple[int, float]]:
    """The tokens that count against the quota, and the seconds until the server saw a request."""
    path = scratch("generate", "quota") / "calls.sqlite"
    with closing(sqlite3.connect(path)) as calls:
        return list(calls.execute("SELECT tokens, done - sent FROM calls"))


def test_the_token_quota_counts_the_output_limit(here: Path, server: OpenAIServer) -> None:
    """As OpenAI does: "Limit 300, Requested 1324"."""
    make(here, 6)
    run(openai_settings(server, max_output_tokens=500))
    entries = journal_entries(here, annotator="openai", model=MODEL, max_output_tokens=500)
    counted = sorted(tokens for tokens, _ in quota_calls())
    assert counted == sorted(entry.usage.input + 500 for entry in entries)


def test_googles_quota_counts_input_alone(here: Path) -> None:
    make(here, 3)
    with GeminiServer() as server:
        run(configure(here, annotator="gemini", base_url=server.url))
    entries = journal_entries(here, annotator="gemini")
    counted = sorted(tokens for tokens, _ in quota_calls())
    assert counted == sorted(entry.usage.input for entry in entries)


def test_the_dry_run_counts_the_output_limit(here: Path, server: OpenAIServer, capsys: Any) -> None:
    make(here, 10)
    openai_settings(server, tokens_per_minute=1000, max_output_tokens=10_000)
    assert main(["generate", "--dry-run"]) == 0
    hours = re.search(r"([\d.]+) hours", capsys.readouterr().out)
    assert hours
    assert (
        100 / 60 - 0.01 < float(hours[1]) < 120 / 60
    )  # ten requests of 10,000 tokens and their input


def test_what_a_slow_model_takes_is_not_the_way_to_the_server(
    here: Path, server: OpenAIServer
) -> None:
    """Two replies tell what is usual; with the third, all but 2 s are the model's."""
    make(here, 3)
    server.latency = 3.0
    run(openai_settings(server, timeout_s=10, concurrency=1))
    seconds = [taken for _, taken in quota_calls()]
    assert min(seconds[:2]) >= 3.0
    assert 2.0 <= seconds[2] < 3.0
