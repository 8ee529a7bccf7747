"""What a run costs where the price isn't known, and what a dry run says about it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from abo_vqa.cli import main
from abo_vqa.core.service_config import Prices
from abo_vqa.remote.contract import Usage
from abo_vqa.remote.estimates import duration_lines, replies_per_minute, service_lines
from abo_vqa.remote.journal import JournalEntry
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make
from tests.support.openai_annotation import openai_settings
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")

UNPRICED = {"price_input": None, "price_output": None}
OWN = {"annotator": "openai", "base_url": "http://localhost:8000/v1"}


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


def test_only_the_default_models_price_is_known(here: Path) -> None:
    make(here, 1)
    assert configure(here, annotator="gemini").generate.prices == Prices(0.10, 0.40)
    assert configure(here, annotator="gemini", price_input=5.0).generate.prices == (5.0, 0.40)
    assert configure(here, annotator="gemini", model="gemini-9-pro").generate.prices is None
    assert configure(here, annotator="openai").generate.prices is None  # priced by its own server
    free = {"price_input": 0, "price_output": 0}
    assert configure(here, annotator="openai", **free).generate.prices == Prices(0, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget_usd": 5}, "budget_usd needs .*the price of gpt-5 isn't known"),
        ({"price_input": 1.0}, "price_input and price_output .* belong together"),
        ({"price_output": 0.0}, "price_input and price_output .* belong together"),
    ],
)
def test_a_price_that_isnt_known_is_no_basis(
    here: Path, settings: dict[str, Any], message: str
) -> None:
    make(here, 1)
    with pytest.raises(ValueError, match=message):
        configure(here, annotator="openai", model="gpt-5", **settings)


def test_a_dry_run_names_model_server_and_rates(
    here: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 4)
    openai_settings(server, **UNPRICED)
    assert main(["generate", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert f"model              gpt-5-mini at {server.url} (protocol openai)" in text
    assert "price              unknown: set generate.price_input and generate.price_out" in text
    assert "USD," not in text
    openai_settings(server)
    assert main(["generate", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "USD, at 0.25 USD per million tokens in and 2 out" in text
    openai_settings(server, batch=True)
    assert main(["generate", "--dry-run"]) == 0
    assert "in and 2 out, 0.5 of that in batch mode" in capsys.readouterr().out


def test_a_run_without_a_price_says_so(
    here: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 4)
    config = openai_settings(server, **UNPRICED)
    assert main(["generate", "--shard", "1/1"]) == 0
    printed = capsys.readouterr()
    assert "spent so far: price unknown" in printed.out
    assert " USD" not in printed.err
    metrics = run(config).metrics
    assert "cost_usd" not in metrics
    assert metrics["input_tokens"] > 0
    assert main(["generate", "--dry-run"]) == 0
    tokens = f"{int(metrics['input_tokens']):,} tokens in"
    assert f"spent so far       {tokens}" in capsys.readouterr().out


def test_a_missing_key_is_part_of_the_estimate(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(here, 1)
    monkeypatch.delenv("OPENAI_API_KEY")
    for settings in ({}, {**OWN, "key_variable": "NO_SUCH_KEY"}):
        service = configure(here, **{"annotator": "openai", **settings}).generate
        assert "key                warning: no API key" in "\n".join(service_lines(service))
    assert len(service_lines(configure(here, **OWN).generate)) == 1  # it needs none


def test_the_pace_of_a_server_of_ones_own(here: Path) -> None:
    """It has no key, and no quota of anybody's."""
    make(here, 1)
    service = configure(here, **OWN).generate
    usage = Usage(300, 30)
    lines = duration_lines(service, "generate.", 100, Usage(30_000, 3_000), ())
    assert "pace isn't known before the first replies" in lines[0]
    assert "requests_per_minute 1,000" in lines[1]
    assert "key" not in "".join(lines)
    # Two runs, an hour apart, of a reply every 2 s.
    moments = [2.0 * i + 3600 * (i >= 30) for i in range(60)]
    entries = [JournalEntry(f"{i}.jpg", "", usage=usage, time=t) for i, t in enumerate(moments)]
    assert replies_per_minute(entries) == pytest.approx(30)
    lines = duration_lines(service, "generate.", 1800, Usage(), entries)
    assert "1.00 hours at the pace so far (30.0 replies a minute)" in lines[0]
    assert replies_per_minute(entries[:20]) is None
    hosted = configure(here, annotator="openai").generate
    lines = duration_lines(hosted, "generate.", 1800, Usage(), entries)
    assert "at the quota of 1 key(s)" in lines[0]
    assert "1.00 hours at the pace so far" in lines[1]


def test_a_wait_for_the_quota_is_shown(
    here: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The bar says why it stands still."""
    monkeypatch.setattr("abo_vqa.core.progress._interval", lambda: 0.2)
    monkeypatch.setattr("abo_vqa.remote.ledger.Ledger.__init__.__defaults__", (8.0,))
    make(here, 4)
    begin = time.monotonic()
    run(openai_settings(server, requests_per_minute=3))
    assert time.monotonic() - begin > 4
    assert "waiting for requests_per_minute" in capsys.readouterr().err
