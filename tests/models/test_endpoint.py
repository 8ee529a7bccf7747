"""Models behind an API as baselines, against servers that speak the vendors' protocols."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import AboVqaError, RetryLaterError, TerminatedError, UserError
from abo_vqa.core.tables import read_table
from abo_vqa.models.registry import load_model
from abo_vqa.stages.baseline import run
from tests.support import ROOT, workspaces
from tests.support.annotation import KEY
from tests.support.endpoints import ENDPOINT_SERVER, add_endpoint, asked
from tests.support.servers.gemini import GeminiServer
from tests.support.servers.openai_chat import OpenAIServer

# Those after which another try, or taking the reply apart, gives the clean run's answer.
FAULTS = {
    "gemini": ("minute", "500", "503", "slow", "drop", "cut_body", "torn", "empty", "safety"),
    "openai": (
        "minute", "500", "503", "slow", "drop", "cut_body", "torn", "fence", "thought", "parts",
        "no_choices", "empty_text", "tool_calls", "provider", "end_of_thought",
    ),
}  # fmt: skip
PREDICTIONS = Path("reports/baselines/hosted/predictions.csv")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = workspaces.workspace(tmp_path / "work", images=8)
    monkeypatch.chdir(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("abo_vqa.remote.backoff.FIRST_PAUSE_S", 0.05)
    return root


def set_up(server: GeminiServer, protocol: str = "gemini", **settings: Any) -> None:
    """Name the server in the profile, as the model `hosted`."""
    add_endpoint(server.url, protocol, **settings)


def answer() -> None:
    """Run the stage, without tracking."""
    cleanup = run(load_config(), model="hosted").cleanup
    assert cleanup is not None
    cleanup()


@pytest.mark.parametrize("protocol", ENDPOINT_SERVER)
def test_answers_are_a_row_of_the_table(here: Path, protocol: str) -> None:
    with ENDPOINT_SERVER[protocol]() as server:
        set_up(server, protocol)
        server.plan("*", "", "500", "minute", "drop", "400")
        answer()
        table = read_table(PREDICTIONS)
        assert len(table) == 24
        # The image that doesn't decode, and the request that the service refuses.
        assert (table["error"] != "").sum() == 3 + 1
        assert set(table["prediction"]) <= {"red", "blue", "two", "yes", "wood", ""}
        assert len(set(table["prediction"])) > 2
        assert len(asked(server)) == 21
        # Again, after the journal of answers is gone: paid replies are there.
        sent = len(server.calls)
        answer()
        new = read_table(PREDICTIONS)
        assert len(server.calls) - sent == 1  # the refused one
        known = table["error"] == ""
        assert new[known].equals(table[known])


def test_ask_choose_and_what_it_cannot_do(here: Path, capsys: Any) -> None:
    with GeminiServer() as server:
        set_up(server)
        image = "data/raw/sample/images/small/00/00000001.jpg"
        ask = ["ask", "--model", "hosted", "--image", image, "--question", "what?"]
        assert main(ask) == 0
        assert capsys.readouterr().out.strip() in ("red", "blue", "two", "yes", "wood")
        (sent,) = asked(server)
        assert sent[0] == "Answer the question about the image with one word.\nwhat?"
        assert main([*ask, "--choices", "a,b"]) == 2
        assert "can't rank choices" in capsys.readouterr().err
        model = load_model("hosted", load_config())
        with pytest.raises(UserError, match="can't be stored"):
            model.split_encoded(b"")


def test_budget_stops_with_everything_saved(here: Path) -> None:
    price = {"price_input": 100.0, "price_output": 0.0, "concurrency": 1}
    with GeminiServer() as server:
        set_up(server, budget_usd=0.4, **price)
        with pytest.raises(UserError, match=r"budget_usd: 0.4"):
            answer()
        paid = sum(asked(server).values())
        assert 0 < paid < 21
        set_up(server, budget_usd=40, **price)
        answer()
        assert set(asked(server).values()) == {1}
        assert len(asked(server)) == 21


@pytest.mark.parametrize(
    ("fault", "code", "said", "most"),
    [
        ("day", 75, "daily quota is spent", 1),
        ("no_quota", 2, "no free quota", 1),
        ("bad_key", 2, "no usable API key", 1),
        ("thoughts", 2, r"max_output_tokens (1024)", 5),
    ],
)
def test_what_stops_it(here: Path, fault: str, code: int, said: str, most: int) -> None:
    with GeminiServer() as server:
        set_up(server)
        server.plan("*", *[fault] * 99)
        with pytest.raises(AboVqaError) as caught:
            answer()
        assert caught.value.exit_code == code
        assert said in str(caught.value)
        assert KEY not in str(caught.value)
        assert sum(asked(server).values()) == most
        assert not PREDICTIONS.exists()


def test_a_service_that_is_away_for_long_is_asked_again_later(here: Path) -> None:
    with ENDPOINT_SERVER["openai"]() as server:
        set_up(server, "openai")
        server.plan("*", *["503_tomorrow"] * 99)
        with pytest.raises(RetryLaterError, match="gpt-5-mini: the service asks to wait until 20"):
            answer()
        assert len(server.calls) < 21 + 5
        server.plan("*")
        answer()
    assert (read_table(PREDICTIONS)["error"] == "").sum() == 21


def test_sigterm_waits_for_the_replies_on_their_way(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unhandled(*_: object) -> None:
        raise AssertionError("nobody handles SIGTERM")

    before = signal.signal(signal.SIGTERM, unhandled)
    try:
        with GeminiServer(latency=0.3) as server:
            set_up(server, concurrency=4)
            monkeypatch.setattr(
                server,
                "on_call",
                lambda _: os.kill(os.getpid(), signal.SIGTERM) if len(server.calls) == 8 else None,
            )
            with pytest.raises(TerminatedError):
                answer()
            assert 8 <= sum(asked(server).values()) < 21
            answer()
            assert len(asked(server)) == 21
            assert set(asked(server).values()) == {1}
    finally:
        signal.signal(signal.SIGTERM, before)


def test_one_row_that_is_asked_again_delays_few_others(here: Path) -> None:
    rows = [f"00/00000001.jpg,question {i}?,red" for i in range(200)]
    Path("data/vqa.csv").write_text("\n".join(["image_path,question,answer", *rows]))
    with OpenAIServer() as server:
        set_up(server, "openai")
        server.plan("question 0?", "500")
        answer()
        order = [call.product for call in server.generated()]
        again = len(order) - 1 - order[::-1].index("question 0?")
        assert again - order.index("question 0?") > 64  # as many as other models answer at a time


def test_settings_of_an_endpoint(here: Path) -> None:
    with GeminiServer() as server:
        for wrong, said in (
            ({"path": "x"}, "models.hosted.path: an endpoint has no weights"),
            ({"quantize": "8bit"}, "models.hosted.quantize"),
            ({"pricee_input": 1}, r"models.hosted.pricee_input: unknown setting; did you mean"),
            ({"budget_usd": 1}, "budget_usd needs price_input"),
            ({"protocol": "soap"}, "models.hosted.protocol: found 'soap'"),
            ({"prompt": "Say it"}, "lacks {question}"),
        ):
            set_up(server, **wrong)
            with pytest.raises(UserError, match=said):
                load_config()
        set_up(server)
        assert load_config().models.hosted.batch_size == 1024
        before = load_config().models.hosted.answer_settings()
        set_up(server, budget_usd=3, price_input=1, concurrency=2, requests_per_minute=7)
        assert load_config().models.hosted.answer_settings() == before  # no reason to ask again


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ENDPOINT_SERVER)
def test_killed_and_resumed_asks_nothing_twice(here: Path, protocol: str) -> None:
    """A request that was on its way when the process died may be sent again, no other."""
    command = [sys.executable, str(ROOT / "src/abo_vqa"), "baseline", "--model", "hosted"]
    concurrency, kills = 2, 0
    # A fifth of all requests fail, or bring nothing that is an answer.
    with ENDPOINT_SERVER[protocol](latency=0.15, rate=0.2, kinds=FAULTS[protocol]) as server:
        set_up(server, protocol, concurrency=concurrency)
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
        table = read_table(PREDICTIONS)
    with ENDPOINT_SERVER[protocol]() as clean:
        set_up(clean, protocol)
        answer()
    assert read_table(PREDICTIONS).equals(table)


@pytest.mark.parametrize("protocol", ENDPOINT_SERVER)
def test_what_is_paid_for_holds_at_another_address_and_with_another_pillow(
    here: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ENDPOINT_SERVER[protocol]() as server:
        set_up(server, protocol)
        answer()
        table = read_table(PREDICTIONS)
    monkeypatch.setattr("abo_vqa.models.endpoint.model._QUALITY", 60)  # other bytes are sent
    with ENDPOINT_SERVER[protocol]() as other:
        set_up(other, protocol)
        answer()
        assert not asked(other)
        assert read_table(PREDICTIONS).equals(table)
        set_up(other, protocol, image_size=32)  # another image
        answer()
        assert sum(asked(other).values()) == 21
        other.calls.clear()
        set_up(other, protocol, image_size=32, safety="BLOCK_NONE")
        answer()
        # Chat completions have no such parameter.
        assert sum(asked(other).values()) == (0 if protocol == "openai" else 21)


def test_two_addresses_of_one_model_need_two_names(here: Path) -> None:
    add_endpoint("http://localhost:1/v1", "openai", "one")
    add_endpoint("http://localhost:2/v1", "openai", "two")
    with pytest.raises(UserError, match=r"models\.one and models\.two differ only in base_url"):
        load_config()
    add_endpoint("http://localhost:2/v1", "openai", "two", model="quantised")
    assert load_config().models.two.endpoint.model == "quantised"


def one_answer_missing(server: OpenAIServer, *faults: str) -> tuple[pd.DataFrame, str]:
    """Answer all rows, forget the answer to one question, which is to meet faults from now on.

    Returns:
        The table, and the question.
    """
    answer()
    table = read_table(PREDICTIONS)
    [file] = Path(".cache/abo-vqa/endpoint").glob("*/replies-0.jsonl")
    *lines, last = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines))
    server.calls.clear()
    question = json.loads(last)["image"].rpartition("\n")[2]
    server.plan(question, *faults)
    return table, question


@pytest.mark.parametrize("fault", ["500", "hang"])
def test_a_question_that_always_fails_is_a_row_with_an_error(here: Path, fault: str) -> None:
    with OpenAIServer(hang=1) as server:
        # Patience ends before the third try, where each try takes its whole time.
        patience = 4.0 if fault == "500" else 0.5
        set_up(server, "openai", attempts=3, patience_s=patience, timeout_s=0.4)
        table, question = one_answer_missing(server, *[fault] * 99)
        answer()
        new = read_table(PREDICTIONS)
        changed = new["error"] != table["error"]
        assert changed.sum() == 1
        assert sum(call.product == question for call in server.generated()) <= 4
        controls = [call for call in server.generated() if call.product != question]
        assert 1 <= len(controls) <= 3
        assert all("square" in call.product for call in controls)
        # The journal has control questions; they are nobody's answers.
        server.plan(question)
        answer()
        assert read_table(PREDICTIONS).equals(table)


def test_a_service_that_is_away_is_no_row_s_fault(here: Path) -> None:
    with OpenAIServer() as server:
        set_up(server, "openai", attempts=2, patience_s=1.0)
        table, _ = one_answer_missing(server)
        server.plan("*", *["500"] * 99)
        with pytest.raises(RetryLaterError, match="no answer for 1 s"):
            answer()
        server.plan("*")
        answer()
        assert read_table(PREDICTIONS).equals(table)


@pytest.mark.parametrize(
    ("faults", "tries", "error"),
    [
        (["empty_text", "tool_calls"], 3, ""),
        (["no_choices"], 2, ""),
        (["torn"], 2, ""),
        (["fence"], 1, ""),
        (["thought"], 1, ""),
        (["empty_text"] * 9, 3, "the model wrote no answer (STOP)"),
        (["torn"] * 9, 2, "the reply was cut off by max_output_tokens (MAX_TOKENS)"),
        (["refused"] * 9, 2, "the model wrote no answer (REFUSAL)"),
    ],
)
def test_replies_without_an_answer_are_asked_for_again(
    here: Path, faults: list[str], tries: int, error: str
) -> None:
    with OpenAIServer() as server:
        set_up(server, "openai")
        table, _ = one_answer_missing(server, *faults)
        answer()
        new = read_table(PREDICTIONS)
        [row] = (new["error"] != table["error"]).to_numpy().nonzero()[0] if error else [None]
        if error:
            assert (new["error"][row], new["prediction"][row]) == (error, "")
        else:
            assert new.equals(table)
        assert len(server.generated()) == tries
        answer()  # what was paid for isn't asked again, even if it brought nothing
        assert len(server.generated()) == tries
        assert read_table(PREDICTIONS).equals(new)


@pytest.mark.parametrize("fault", ["empty_text", "torn"])
def test_a_server_that_fails_for_all_is_held_against_no_row(here: Path, fault: str) -> None:
    with OpenAIServer() as server:
        set_up(server, "openai", concurrency=4)
        server.plan("*", *[""] * 6, *[fault] * 99)
        for _ in range(4):
            with pytest.raises(UserError, match="questions in a row got no answer"):
                answer()
        server.plan("*")
        answer()
        table = read_table(PREDICTIONS)
        assert (table["error"] != "").sum() == 3  # the image that doesn't decode
    with OpenAIServer() as clean:
        set_up(clean, "openai", temperature=0.5)
        answer()
        assert read_table(PREDICTIONS).equals(table)
