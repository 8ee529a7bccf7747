"""Models behind an API as baselines, against servers that speak the vendors' protocols."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import AboVqaError, RetryLaterError, TerminatedError, UserError
from abo_vqa.core.tables import read_table
from abo_vqa.models.registry import load_model
from abo_vqa.remote.journal import AnnotationJournal
from abo_vqa.stages import baseline
from tests.support import ROOT
from tests.support.annotation import KEY
from tests.support.endpoints import (
    ENDPOINT_SERVER,
    HOSTED_PREDICTIONS,
    add_endpoint,
    answer_hosted,
    asked,
)
from tests.support.servers.gemini import GeminiServer
from tests.support.servers.openai_chat import OpenAIServer
from tests.support.stages import run_stage

# Those after which another try, or taking the reply apart, gives the clean run's answer.
FAULTS = {
    "gemini": ("minute", "500", "503", "slow", "drop", "cut_body", "torn", "empty", "safety"),
    "openai": (
        "minute", "500", "503", "slow", "drop", "cut_body", "torn", "fence", "thought", "parts",
        "no_choices", "empty_text", "tool_calls", "provider", "end_of_thought",
    ),
}  # fmt: skip


@pytest.mark.parametrize("protocol", ENDPOINT_SERVER)
def test_answers_are_a_row_of_the_table(hosted_project: Path, protocol: str) -> None:
    with ENDPOINT_SERVER[protocol]() as server:
        add_endpoint(server.url, protocol)
        server.plan("*", "", "500", "minute", "drop", "400")
        answer_hosted()
        table = read_table(HOSTED_PREDICTIONS)
        assert len(table) == 24
        # The image that doesn't decode, and the request that the service refuses.
        assert (table["error"] != "").sum() == 3 + 1
        assert set(table["prediction"]) <= {"red", "blue", "two", "yes", "wood", ""}
        assert len(set(table["prediction"])) > 2
        assert len(asked(server)) == 21
        # Again, after the journal of answers is gone: paid replies are there.
        sent = len(server.calls)
        answer_hosted()
        new = read_table(HOSTED_PREDICTIONS)
        assert len(server.calls) - sent == 1  # the refused one
        known = table["error"] == ""
        assert new[known].equals(table[known])


def test_ask_choose_and_what_it_cannot_do(hosted_project: Path, capsys: Any) -> None:
    with GeminiServer() as server:
        add_endpoint(server.url)
        image = "data/raw/sample/images/small/00/00000001.jpg"
        ask = ["ask", "--model", "hosted", "--image", image, "--question", "what?"]
        assert main(ask) == 0
        assert capsys.readouterr().out.strip() in ("red", "blue", "two", "yes", "wood")
        (sent,) = asked(server)
        assert sent[0] == "Answer the question about the image with one word.\nwhat?"
        server.plan("*", "400")
        assert main([*ask[:-1], "why?"]) == 2
        assert "no answer: HTTP 400" in capsys.readouterr().err
        assert main([*ask, "--choices", "a,b"]) == 2
        assert "can't rank choices" in capsys.readouterr().err
        model = load_model("hosted", load_config())
        with pytest.raises(UserError, match="can't be stored"):
            model.split_encoded(b"")


def test_what_it_costs(hosted_project: Path, capsys: Any) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")  # nobody has set a price
        assert main(["baseline", "--model", "hosted", "--dry-run"]) == 0
        text = capsys.readouterr().out
        assert "unknown: set models.hosted.price_input and models.hosted.price_output" in text
        assert server.calls == []
        summary = run_stage(baseline, load_config(), model="hosted")
        assert "hosted: price unknown so far, for 21 replies" in summary.message
        assert "cost_usd" not in summary.metrics
        assert main(["baseline", "--model", "blind", "--dry-run"]) == 2
        assert "blind runs on this machine" in capsys.readouterr().err


def test_budget_stops_with_everything_saved(hosted_project: Path) -> None:
    price = {"price_input": 100.0, "price_output": 0.0, "concurrency": 1}
    with GeminiServer() as server:
        add_endpoint(server.url, budget_usd=0.4, **price)
        with pytest.raises(UserError, match=r"budget_usd: 0.4"):
            answer_hosted()
        paid = sum(asked(server).values())
        assert 0 < paid < 21
        add_endpoint(server.url, budget_usd=40, **price)
        answer_hosted()
        assert set(asked(server).values()) == {1}
        assert len(asked(server)) == 21


def test_one_process_asks_whatever_the_engine(hosted_project: Path, monkeypatch) -> None:
    """So there is one journal, one record of the quota, and one budget."""

    def no_cluster(config):
        pytest.fail("a service needs no workers")

    monkeypatch.setattr("abo_vqa.models.answering.baseline.open_engine", no_cluster)
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")
        answer_hosted()
    assert len(list(Path(".cache/abo-vqa/endpoint").glob("*/replies-*.jsonl"))) == 1


def test_another_process_is_named(hosted_project: Path) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")
        answer_hosted()
        [path] = Path(".cache/abo-vqa/endpoint").glob("*/replies-0.jsonl")
        path.unlink()
        with AnnotationJournal(path, {}), pytest.raises(UserError, match="another process is ask"):
            answer_hosted()


@pytest.mark.parametrize(
    ("fault", "code", "said", "most"),
    [
        ("day", 75, "daily quota is spent", 1),
        ("no_quota", 2, "no free quota", 1),
        ("bad_key", 2, "no usable API key", 1),
        ("thoughts", 2, r"max_output_tokens (1024)", 5),
    ],
)
def test_what_stops_it(hosted_project: Path, fault: str, code: int, said: str, most: int) -> None:
    with GeminiServer() as server:
        add_endpoint(server.url)
        server.plan("*", *[fault] * 99)
        with pytest.raises(AboVqaError) as caught:
            answer_hosted()
        assert caught.value.exit_code == code
        assert said in str(caught.value)
        assert KEY not in str(caught.value)
        assert sum(asked(server).values()) == most
        assert not HOSTED_PREDICTIONS.exists()


def test_a_service_that_is_away_for_long_is_asked_again_later(hosted_project: Path) -> None:
    with ENDPOINT_SERVER["openai"]() as server:
        add_endpoint(server.url, "openai")
        server.plan("*", *["503_tomorrow"] * 99)
        with pytest.raises(RetryLaterError, match="gpt-5-mini: the service asks to wait until 20"):
            answer_hosted()
        assert len(server.calls) < 21 + 5
        server.plan("*")
        answer_hosted()
    assert (read_table(HOSTED_PREDICTIONS)["error"] == "").sum() == 21


def test_sigterm_waits_for_the_replies_on_their_way(
    hosted_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unhandled(*_: object) -> None:
        raise AssertionError("nobody handles SIGTERM")

    before = signal.signal(signal.SIGTERM, unhandled)
    try:
        with GeminiServer(latency=0.3) as server:
            add_endpoint(server.url, concurrency=4)
            monkeypatch.setattr(
                server,
                "on_call",
                lambda _: os.kill(os.getpid(), signal.SIGTERM) if len(server.calls) == 8 else None,
            )
            with pytest.raises(TerminatedError):
                answer_hosted()
            assert 8 <= sum(asked(server).values()) < 21
            answer_hosted()
            assert len(asked(server)) == 21
            assert set(asked(server).values()) == {1}
    finally:
        signal.signal(signal.SIGTERM, before)


def test_one_row_that_is_asked_again_delays_few_others(hosted_project: Path) -> None:
    rows = [f"00/00000001.jpg,question {i}?,red" for i in range(200)]
    Path("data/vqa.csv").write_text("\n".join(["image_path,question,answer", *rows]))
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")
        server.plan("question 0?", "500")
        answer_hosted()
        order = [call.product for call in server.generated()]
        again = len(order) - 1 - order[::-1].index("question 0?")
        assert again - order.index("question 0?") > 64  # as many as other models answer at a time


def test_settings_of_an_endpoint(hosted_project: Path) -> None:
    with GeminiServer() as server:
        for wrong, said in (
            ({"path": "x"}, "models.hosted.path: an endpoint has no weights"),
            ({"quantize": "8bit"}, "models.hosted.quantize"),
            ({"pricee_input": 1}, r"models.hosted.pricee_input: unknown setting; did you mean"),
            ({"budget_usd": 1, "model": "gemini-9"}, "budget_usd needs price_input"),
            ({"protocol": "soap"}, "models.hosted.protocol: found 'soap'"),
            ({"prompt": "Say it"}, "lacks {question}"),
        ):
            add_endpoint(server.url, **wrong)
            with pytest.raises(UserError, match=said):
                load_config()
        add_endpoint(server.url)
        assert load_config().models.hosted.batch_size == 1024
        before = load_config().models.hosted.answer_settings()
        add_endpoint(server.url, budget_usd=3, price_input=1, concurrency=2, requests_per_minute=7)
        assert load_config().models.hosted.answer_settings() == before  # no reason to ask again


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ENDPOINT_SERVER)
def test_killed_and_resumed_asks_nothing_twice(hosted_project: Path, protocol: str) -> None:
    """A request that was on its way when the process died may be sent again, no other."""
    command = [sys.executable, str(ROOT / "src/abo_vqa"), "baseline", "--model", "hosted"]
    concurrency, kills = 2, 0
    # A fifth of all requests fail, or bring nothing that is an answer.
    with ENDPOINT_SERVER[protocol](latency=0.15, rate=0.2, kinds=FAULTS[protocol]) as server:
        add_endpoint(server.url, protocol, concurrency=concurrency)
        while True:
            sent = len(asked(server))
            process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
            while process.poll() is None and len(asked(server)) < sent + 5:
                time.sleep(0.01)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        assert process.returncode == 0
        assert kills >= 3
        counts = asked(server)
        assert len(counts) == 21
        faults = sum(bool(call.fault) for call in server.generated())
        assert faults
        assert sum(counts.values()) - 21 - faults <= kills * concurrency
        table = read_table(HOSTED_PREDICTIONS)
    with ENDPOINT_SERVER[protocol]() as clean:
        add_endpoint(clean.url, protocol)
        answer_hosted()
    assert read_table(HOSTED_PREDICTIONS).equals(table)


@pytest.mark.parametrize("protocol", ENDPOINT_SERVER)
def test_what_is_paid_for_holds_at_another_address_and_with_another_pillow(
    hosted_project: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ENDPOINT_SERVER[protocol]() as server:
        add_endpoint(server.url, protocol)
        answer_hosted()
        table = read_table(HOSTED_PREDICTIONS)
    monkeypatch.setattr("abo_vqa.models.endpoint.model._QUALITY", 60)  # other bytes are sent
    with ENDPOINT_SERVER[protocol]() as other:
        add_endpoint(other.url, protocol)
        answer_hosted()
        assert not asked(other)
        assert read_table(HOSTED_PREDICTIONS).equals(table)
        add_endpoint(other.url, protocol, image_size=32)  # another image
        answer_hosted()
        assert sum(asked(other).values()) == 21
        other.calls.clear()
        add_endpoint(other.url, protocol, image_size=32, safety="BLOCK_NONE")
        answer_hosted()
        # Chat completions have no such parameter.
        assert sum(asked(other).values()) == (0 if protocol == "openai" else 21)


def test_two_addresses_of_one_model_need_two_names(hosted_project: Path) -> None:
    add_endpoint("http://localhost:1/v1", "openai", "one")
    add_endpoint("http://localhost:2/v1", "openai", "two")
    with pytest.raises(UserError, match=r"models\.one and models\.two differ only in base_url"):
        load_config()
    add_endpoint("http://localhost:2/v1", "openai", "two", model="quantised")
    assert load_config().models.two.endpoint.model == "quantised"
