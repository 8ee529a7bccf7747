"""Annotation through chat completions: every fault that a server may have, with the real SDK."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from abo_vqa.cli import main
from abo_vqa.core.config import Config
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.data.archive import open_archive
from abo_vqa.data.pairs import REPLY_FORMAT
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, journal_entries, make, vqa
from tests.support.servers.gemini import GeminiServer
from tests.support.servers.openai_chat import TRANSIENT, OpenAIServer

KEY = "sk-test-key-that-must-never-be-written-00000"
MODEL = "gpt-5-mini"

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEYS", raising=False)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(delay=0.1, slow=0.2, hang=3) as running:
        yield running


def settings(server: OpenAIServer, **changes: object) -> Config:
    base = {"annotator": "openai", "model": MODEL, "base_url": server.url}
    return configure(Path.cwd(), **base | changes)


def test_the_same_pairs_as_by_the_other_protocol(here: Path, server: OpenAIServer) -> None:
    make(here, 4)
    summary = run(settings(server))
    table = vqa(here)
    assert summary.metrics["cost_usd"] > 0
    assert {row["annotator"] for row in table} == {MODEL}
    assert len(server.generated()) == 4
    run(settings(server))
    assert len(server.generated()) == 4  # everything is known
    with GeminiServer() as other:
        run(configure(here, annotator="gemini", base_url=other.url))
    columns = ("image_path", "question", "answer")
    assert [[row[c] for c in columns] for row in vqa(here)] == [
        [row[c] for c in columns] for row in table
    ]


def test_request_as_sent(here: Path, server: OpenAIServer) -> None:
    rows = make(here, 1)
    run(settings(server, temperature=0.7, thinking="low", max_output_tokens=500))
    (call,) = server.generated()
    assert call.key == KEY
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
    run(settings(server, temperature=0.2))
    expected = vqa(here)
    server.plan("product 0", fault)
    run(settings(server, timeout_s=1))
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
    run(settings(server, concurrency=1))
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
    run(settings(server, concurrency=1))
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
        run(settings(server, concurrency=2))
    assert len(server.generated()) <= 4
    server.plan("*")
    run(settings(server))
    assert len(vqa(here)) == 24  # no image was dropped because of it


@pytest.mark.parametrize("fault", ["day", "google_day"])
def test_a_spent_day_is_not_waited_for(here: Path, server: OpenAIServer, fault: str) -> None:
    make(here, 3)
    server.plan("*", *[fault] * 20)
    with pytest.raises(RetryLaterError, match="daily quota"):
        run(settings(server, concurrency=1))
    assert len(server.generated()) == 1


def test_a_day_that_is_over_soon_is_waited_for_no_longer_than_patience(
    here: Path, server: OpenAIServer
) -> None:
    make(here, 2)
    server.plan("*", "day_words")
    with pytest.raises(RetryLaterError):
        run(settings(server, concurrency=1, patience_s=60))
    assert len(server.generated()) == 1


def test_a_wrong_key_and_a_missing_model_are_one_message(here: Path, server: OpenAIServer) -> None:
    make(here, 3)
    server.keys = {"another"}
    with pytest.raises(UserError) as found:
        run(settings(server))
    assert KEY not in str(found.value)
    assert "401" in str(found.value)
    assert "Check OPENAI_API_KEY" in str(found.value)
    server.keys = None
    with pytest.raises(UserError, match="does not exist") as found:
        run(settings(server, model="gpt-0"))
    assert "gemini" not in str(found.value)


@pytest.mark.parametrize("fault", ["400", "flagged"])
def test_an_image_that_is_refused_is_left_out(here: Path, server: OpenAIServer, fault: str) -> None:
    make(here, 3)
    server.plan("product 1", *[fault] * 9)
    run(settings(server))
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
        run(settings(server))
    assert len(server.generated()) <= 10
    assert {e.finish for e in journal_entries(here, annotator="openai", model=MODEL)} == {kind}


def test_reasoning_is_paid_for_and_not_read(here: Path, server: OpenAIServer) -> None:
    make(here, 1)
    server.plan("*", "thought", "thoughts")
    run(settings(server, concurrency=1))
    (entry,) = journal_entries(here, annotator="openai", model=MODEL)
    assert len(entry.pairs) == 3
    make(here, 2)
    server.plan("product 1", "thoughts")
    run(settings(server, concurrency=1))
    entries = journal_entries(here, annotator="openai", model=MODEL)
    assert 1024 in {entry.usage.output for entry in entries}


def test_a_server_of_ones_own_needs_no_key(
    here: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    make(here, 1)
    monkeypatch.delenv("OPENAI_API_KEY")
    run(settings(server))
    assert len(vqa(here)) == 3
    settings(server, base_url=None, model="gpt-5")
    assert main(["generate"]) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err


def test_a_budget_is_kept_from_the_first_request_on(here: Path, server: OpenAIServer) -> None:
    make(here, 20)
    with pytest.raises(UserError, match="budget_usd"):
        run(settings(server, budget_usd=0.035, price_input=1.0, price_output=20.0))
    spent = sum(
        entry.usage.input * 1.0 + entry.usage.output * 20.0
        for entry in journal_entries(here, annotator="openai", model=MODEL)
    )
    assert 0 < spent / 1e6 <= 0.035


@pytest.mark.parametrize("how", ["", "expired"])
def test_batch_jobs_end_in_the_same_table(here: Path, server: OpenAIServer, how: str) -> None:
    make(here, 6)
    run(settings(server, temperature=0.0))
    online = vqa(here)
    server.calls.clear()
    server.batch_fault = how
    server.plan("product 5", "500")

    def mended(call) -> None:
        server.batch_fault = "" if len(server.batches) > 2 else how

    server.on_call = mended
    run(settings(server, temperature=0.4, batch=True, batch_images=3))
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
    run(settings(server, batch=True, batch_images=2, batch_poll_s=0.05))
    assert len(vqa(here)) == 12
    assert len(server.batches) <= 2 * (1 + len(refuses))


def test_nothing_that_is_written_holds_the_key(here: Path, server: OpenAIServer, capsys) -> None:
    make(here, 2)
    settings(server)
    server.keys = {"another"}
    assert main(["generate"]) == 2
    said = "".join(capsys.readouterr())
    written = [path.read_bytes() for path in here.rglob("*") if path.is_file()]
    assert KEY not in said
    assert not any(KEY.encode() in data for data in written)
    assert json.dumps(said)
