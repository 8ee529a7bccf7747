"""Annotation through chat completions: every fault that a server may have, with the real SDK."""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path

import pytest

from abo_vqa.cli import main
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.data.archive import open_archive
from abo_vqa.data.pairs import REPLY_FORMAT
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, journal_entries, make, vqa
from tests.support.openai_annotation import MODEL, OPENAI_KEY, openai_settings
from tests.support.servers.gemini import Call, GeminiServer
from tests.support.servers.openai_chat import TRANSIENT, OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


def test_the_same_pairs_as_by_the_other_protocol(here: Path, server: OpenAIServer) -> None:
    make(here, 4)
    summary = run(openai_settings(server))
    table = vqa(here)
    assert summary.metrics["cost_usd"] > 0
    assert {row["annotator"] for row in table} == {MODEL}
    assert len(server.generated()) == 4
    run(openai_settings(server))
    assert len(server.generated()) == 4  # everything is known
    with GeminiServer() as other:
        run(configure(here, annotator="gemini", base_url=other.url))
    columns = ("image_path", "question", "answer")
    assert [[row[c] for c in columns] for row in vqa(here)] == [
        [row[c] for c in columns] for row in table
    ]


def test_request_as_sent(here: Path, server: OpenAIServer) -> None:
    rows = make(here, 1)
    run(openai_settings(server, temperature=0.7, thinking="low", max_output_tokens=500))
    (call,) = server.generated()
    assert call.key == OPENAI_KEY
    body = call.body
    assert body["temperature"] == pytest.approx(0.7)
    assert body["reasoning_effort"] == "low"
    assert body["max_tokens"] == 500
    assert "max_completion_tokens" not in body
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"]["items"]["items"]["additionalProperties"] is False
    system, user = body["messages"]
    assert system["role"] == "system"
    image, text = user["content"]
    assert rows[0]["name"] in text["text"]
    assert REPLY_FORMAT not in text["text"]
    with open_archive(here / "data/raw/sample") as archive:
        jpeg = archive.jpeg(rows[0]["image_path"], 256)
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(data) == jpeg


@pytest.mark.parametrize("fault", [*TRANSIENT, "minute_words", "no_usage"])
def test_a_fault_changes_nothing(here: Path, server: OpenAIServer, fault: str) -> None:
    make(here, 2)
    run(openai_settings(server, temperature=0.2))
    expected = vqa(here)
    server.plan("product 0", fault)
    run(openai_settings(server, timeout_s=1))
    assert vqa(here) == expected
    assert len(server.generated(fault)) == 1


@pytest.mark.parametrize(
    ("refuses", "format_sent"),
    [
        (("json_schema",), "json_object"),
        (("response_format",), None),
        (("json_schema", "json_object", "temperature", "max_tokens"), None),
    ],
)
def test_what_a_server_does_not_know_is_left_out_once(
    here: Path, server: OpenAIServer, refuses: tuple[str, ...], format_sent: str | None
) -> None:
    make(here, 5)
    server.refuses = refuses
    run(openai_settings(server, concurrency=1))
    assert len(vqa(here)) == 15
    last = server.generated()[-1].body
    assert last.get("response_format", {}).get("type") == format_sent
    assert REPLY_FORMAT in last["messages"][-1]["content"][-1]["text"], "nothing says what to write"
    assert ("temperature" in last) == ("temperature" not in refuses)
    assert ("max_completion_tokens" in last) == ("max_tokens" in refuses)
    assert len(server.generated()) <= 5 + len(refuses) + 1


def test_a_schema_that_is_ignored_is_asked_for_in_words(
    here: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 5)
    server.ignores_schema = True
    run(openai_settings(server, concurrency=1))
    assert len(vqa(here)) == 15
    assert len(server.generated()) == 6
    assert "doesn't keep to json_schema" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("insufficient_quota", "insufficient_quota"),
        ("402", "Insufficient credits"),
        ("region", "territory not supported"),
    ],
)
def test_an_account_that_is_refused_stops_the_run(
    here: Path, server: OpenAIServer, fault: str, message: str
) -> None:
    make(here, 8)
    server.plan("*", *[fault] * 50)
    with pytest.raises(UserError, match=message):
        run(openai_settings(server, concurrency=2))
    assert len(server.generated()) <= 4
    server.plan("*")
    run(openai_settings(server))
    assert len(vqa(here)) == 24  # no image was dropped because of it


@pytest.mark.parametrize("fault", ["day", "google_day"])
def test_a_spent_day_is_not_waited_for(here: Path, server: OpenAIServer, fault: str) -> None:
    make(here, 3)
    server.plan("*", *[fault] * 20)
    with pytest.raises(RetryLaterError, match="daily quota"):
        run(openai_settings(server, concurrency=1))
    assert len(server.generated()) == 1


def test_a_day_that_is_over_soon_is_waited_for_no_longer_than_patience(
    here: Path, server: OpenAIServer
) -> None:
    make(here, 2)
    server.plan("*", "day_words")
    with pytest.raises(RetryLaterError):
        run(openai_settings(server, concurrency=1, patience_s=60))
    assert len(server.generated()) == 1


def test_a_wrong_key_and_a_missing_model_are_one_message(here: Path, server: OpenAIServer) -> None:
    make(here, 3)
    server.keys = {"another"}
    with pytest.raises(UserError) as found:
        run(openai_settings(server))
    assert OPENAI_KEY not in str(found.value)
    assert "401" in str(found.value)
    assert "Check OPENAI_API_KEY" in str(found.value)
    server.keys = None
    with pytest.raises(UserError, match="does not exist") as found:
        run(openai_settings(server, model="gpt-0"))
    assert "gemini" not in str(found.value)


@pytest.mark.parametrize("fault", ["400", "flagged"])
def test_an_image_that_is_refused_is_left_out(here: Path, server: OpenAIServer, fault: str) -> None:
    make(here, 3)
    server.plan("product 1", *[fault] * 9)
    run(openai_settings(server))
    assert {row["image_path"] for row in vqa(here)} == {"00/00000000.jpg", "02/00000002.jpg"}
    assert len(server.generated(fault)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"), [("refused", "REFUSAL"), ("filtered", "SAFETY"), ("thoughts", "MAX_TOKENS")]
)
def test_replies_that_are_all_empty_stop_the_run_early(
    here: Path, server: OpenAIServer, fault: str, kind: str
) -> None:
    make(here, 30)
    server.plan("*", *[fault] * 200)
    with pytest.raises(UserError, match=kind):
        run(openai_settings(server))
    assert len(server.generated()) <= 10
    assert {e.finish for e in journal_entries(here, annotator="openai", model=MODEL)} == {kind}


def test_reasoning_is_paid_for_and_not_read(here: Path, server: OpenAIServer) -> None:
    make(here, 1)
    server.plan("*", "thought", "thoughts")
    run(openai_settings(server, concurrency=1))
    (entry,) = journal_entries(here, annotator="openai", model=MODEL)
    assert len(entry.pairs) == 3
    make(here, 2)
    server.plan("product 1", "thoughts")
    run(openai_settings(server, concurrency=1))
    entries = journal_entries(here, annotator="openai", model=MODEL)
    assert 1024 in {entry.usage.output for entry in entries}


def test_a_server_of_ones_own_needs_no_key(
    here: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    make(here, 1)
    monkeypatch.delenv("OPENAI_API_KEY")
    run(openai_settings(server, key_variable=None))
    assert len(vqa(here)) == 3
    openai_settings(server, base_url=None, key_variable=None, model="gpt-5")
    assert main(["generate"]) == 2
    assert "OPENAI_API_KEY, or OPENAI_API_KEYS" in capsys.readouterr().err


def test_servers_without_keys_have_quotas_of_their_own(here: Path, server: OpenAIServer) -> None:
    make(here, 2)
    run(openai_settings(server, key_variable=None, requests_per_day=2))
    with OpenAIServer() as other:
        run(openai_settings(other, key_variable=None, requests_per_day=2, temperature=0.9))
        assert len(other.generated()) == 2
    with pytest.raises(RetryLaterError, match="daily quota"):
        run(openai_settings(server, key_variable=None, requests_per_day=2, temperature=0.8))


def test_a_key_goes_where_the_settings_send_it(
    here: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """OpenAI's key is OpenAI's: another server gets the one whose variable is named, or none."""
    make(here, 1)
    server.keys = {"its-own-key-1", "its-own-key-2"}
    openai_settings(server, key_variable=None)
    assert main(["generate"]) == 2
    printed = capsys.readouterr().err
    assert "was sent no key" in printed
    assert "set generate.key_variable to the variable's name" in printed
    assert OPENAI_KEY not in {call.key for call in server.calls}
    openai_settings(server, key_variable="MY_SERVER")
    assert main(["generate"]) == 2
    assert "key_variable names MY_SERVER, which isn't set" in capsys.readouterr().err
    monkeypatch.setenv("MY_SERVER", "its-own-key-2")
    server.calls.clear()
    run(openai_settings(server, key_variable="MY_SERVER"))
    assert {call.key for call in server.calls} == {"its-own-key-2"}


def test_keys_learn_from_each_other_what_the_server_refuses(
    here: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{OPENAI_KEY}{i}" for i in range(4)]
    monkeypatch.setenv("OPENAI_API_KEY", ",".join(keys))
    make(here, 8)
    server.refuses = ("json_schema", "temperature")
    run(openai_settings(server, concurrency=1, temperature=0.5))
    assert len(vqa(here)) == 24
    assert {call.key for call in server.generated()} == set(keys)
    assert len(server.generated()) == 8 + 2


def test_a_request_that_is_refused_for_a_parameter_counts_in_the_ledger(
    here: Path, server: OpenAIServer
) -> None:
    """Vendors charge nothing for it, and count it in their quotas."""
    make(here, 3)
    server.refuses = ("json_schema", "temperature")
    with pytest.raises(RetryLaterError, match="daily quota"):
        run(openai_settings(server, concurrency=1, temperature=0.5, requests_per_day=4))
    assert len(server.generated()) == 4


def interrupt_when_polled(call: Call) -> None:
    if call.method == "GET" and call.path.startswith("/v1/batches/"):
        os.kill(os.getpid(), signal.SIGINT)


def test_nothing_that_is_written_holds_a_key(
    here: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """A working run, one of whose keys is rejected and quoted; and a batch job under way."""
    rejected = "sk-rejected-key-that-must-never-be-written-0"
    monkeypatch.setenv("OPENAI_API_KEY", f"{rejected},{OPENAI_KEY}")
    make(here, 4)
    server.keys = {OPENAI_KEY}
    openai_settings(server, concurrency=1)
    assert main(["generate"]) == 0
    assert any(call.key == rejected for call in server.calls)
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    server.batch_fault = "hangs"
    openai_settings(server, batch=True, temperature=0.9, batch_poll_s=0.05)
    server.on_call = interrupt_when_polled
    assert main(["generate"]) != 0
    printed = "".join(capsys.readouterr())
    assert "<api key>" in printed  # the quoted one
    written = {path.relative_to(here): path.read_bytes() for path in here.rglob("*")
               if path.is_file()}  # fmt: skip
    # All that a run leaves is there: replies, the ledger, a job under way, the table, MLflow's.
    names = {path.name for path in written if written[path]}
    assert {"main.jsonl", "calls.sqlite", "main.jobs", "generated.csv", "mlflow.db"} <= names
    for secret in (OPENAI_KEY, rejected):
        assert secret not in printed
        assert [path for path, data in written.items() if secret.encode() in data] == []


def test_safety_isnt_sent_and_asks_nothing_anew(here: Path, server: OpenAIServer) -> None:
    make(here, 2)
    run(openai_settings(server))
    server.calls.clear()
    run(openai_settings(server, safety="BLOCK_NONE"))
    assert not server.generated()


def test_all_that_a_server_can_refuse(here: Path, server: OpenAIServer) -> None:
    make(here, 1)
    server.refuses = (
        "json_schema", "json_object", "temperature", "reasoning_effort", "max_tokens",
    )  # fmt: skip
    run(openai_settings(server, concurrency=1, temperature=0.5, thinking="low"))
    assert len(vqa(here)) == 3
    assert len(server.generated()) == len(server.refuses) + 1
