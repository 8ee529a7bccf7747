"""The budget in USD is never exceeded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.remote.ledger import Ledger, QuotaDelay
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, journal_entries, make
from tests.support.servers.gemini import GeminiServer

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer() as running:
        yield running


def test_budget_is_not_exceeded(here: Path, server: GeminiServer) -> None:
    make(here, 20)
    settings = {"annotator": "gemini", "base_url": server.url, "price_input": 10.0}
    with pytest.raises(UserError, match=r"generate\.budget_usd"):
        run(configure(here, budget_usd=0.05, **settings))
    spent = sum(entry.usage.input * 10 / 1e6 for entry in journal_entries(here, annotator="gemini"))
    assert 0.03 < spent <= 0.05
    asked = len(server.generated())
    run(configure(here, budget_usd=5.0, **settings))
    assert len(server.generated()) == 20
    assert 0 < asked < 20


def test_budget_holds_when_answers_outrun_the_sender(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a starved machine answers are in before the thread that sends has looked at them."""
    reserve = Ledger.reserve

    def starved(*args: Any) -> int | QuotaDelay:
        time.sleep(0.1)
        return reserve(*args)

    monkeypatch.setattr(Ledger, "reserve", starved)
    make(here, 12)
    settings = {"annotator": "gemini", "base_url": server.url, "price_input": 10.0}
    with pytest.raises(UserError, match=r"generate\.budget_usd"):
        run(configure(here, budget_usd=0.03, **settings))
    spent = sum(entry.usage.input * 10 / 1e6 for entry in journal_entries(here, annotator="gemini"))
    assert 0.01 < spent <= 0.03


def test_first_requests_reserve_all_they_can_cost(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of the vendor's counting yet, and all could be sent before it is."""
    make(here, 6)
    monkeypatch.setattr("tests.support.servers.gemini_responses.IMAGE_TOKENS", 1120)
    settings = {"annotator": "gemini", "base_url": server.url, "price_input": 10.0}
    with pytest.raises(UserError, match=r"generate\.budget_usd"):
        run(configure(here, budget_usd=0.05, **settings))
    spent = sum(entry.usage.input * 10 / 1e6 for entry in journal_entries(here, annotator="gemini"))
    assert 0.01 < spent <= 0.05
