"""The batch mode against a server that speaks the Batch API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from abo_vqa.annotate.batch_mode.collection import BatchCollector
from abo_vqa.annotate.batch_mode.run import BatchRun
from abo_vqa.annotate.paid_run import annotations_folder
from abo_vqa.core.config import Config
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.remote.journal import read_journal
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make, vqa, write_balanced
from tests.support.servers.gemini import GeminiServer


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer() as running:
        yield running


def batch(here: Path, server: GeminiServer, **settings: object) -> Config:
    return configure(here, annotator="gemini", base_url=server.url, batch=True, **settings)


def test_same_table_at_half_the_price(here: Path, server: GeminiServer) -> None:
    make(here, 7)
    run(configure(here, annotator="gemini", base_url=server.url, temperature=0.0))
    online = vqa(here)
    server.calls.clear()
    summary = run(batch(here, server, batch_images=3, temperature=0.4))
    assert vqa(here) == online
    assert server.generated() == []
    assert len(server.batches) == 3
    entries = read_journal(annotations_folder(batch(here, server).generate) / "main.jsonl").entries
    full = sum(e.usage.input * 0.10 + e.usage.output * 0.40 for e in entries) / 1e6
    assert summary.metrics["cost_usd"] == pytest.approx(full / 2)


def test_requests_are_those_of_the_online_mode(here: Path, server: GeminiServer) -> None:
    make(here, 1)
    run(configure(here, annotator="gemini", base_url=server.url, temperature=0.9))
    (call,) = server.generated()
    run(batch(here, server, temperature=0.91))
    (job,) = server.batches.values()
    sent = json.loads(server.files[job["input"]])["request"]
    online = call.body
    # The order in which the SDK lists a schema's properties, online only.
    del online["generationConfig"]["responseSchema"]["items"]["property_ordering"]
    assert sent["generationConfig"] == online["generationConfig"] | {"temperature": 0.91}
    assert sent["safetySettings"] == online["safetySettings"]
    texts = [body["systemInstruction"]["parts"][0]["text"] for body in (sent, online)]
    assert texts[0] == texts[1]
    parts = [body["contents"][0]["parts"][1]["text"] for body in (sent, online)]
    assert parts[0] == parts[1]


def test_bad_replies_go_into_another_job(here: Path, server: GeminiServer) -> None:
    make(here, 4)
    server.plan("product 1", "multi_word")
    server.plan("product 2", "500")
    run(batch(here, server))
    assert len(server.batches) == 2
    assert len(vqa(here)) == 12


def test_killed_while_a_job_runs(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop at each of the moments that matter; every image is paid for once."""
    make(here, 4)
    config = batch(here, server)
    real = BatchRun._poll

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BatchRun, "_poll", die)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    monkeypatch.setattr(BatchRun, "_poll", real)

    # Half way through the answers.
    appended = []

    def die_at_two(self: BatchCollector, *rest: object) -> object:
        if len(appended) == 2:
            raise KeyboardInterrupt
        appended.append(1)
        return make_entry(self, *rest)  # type: ignore[arg-type]

    make_entry = BatchCollector._entry
    monkeypatch.setattr(BatchCollector, "_entry", die_at_two)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    monkeypatch.setattr(BatchCollector, "_entry", make_entry)

    run(config)
    assert len(server.batches) == 1
    assert len(vqa(here)) == 12
    entries = read_journal(annotations_folder(config.generate) / "main.jsonl").entries
    assert len(entries) == len({entry.image for entry in entries}) == 4


def test_job_whose_creation_was_not_heard_of(here: Path, server: GeminiServer) -> None:
    make(here, 3)
    server.plan("batch", "drop")
    run(batch(here, server))
    assert len(server.batches) == 1  # found again by its name, not created twice
    assert len(vqa(here)) == 9


def test_answers_for_products_that_have_changed(here: Path, server: GeminiServer) -> None:
    rows = make(here, 2)
    config = batch(here, server)
    server.batch_polls = 10**6
    with pytest.raises(RetryLaterError):
        server.plan("poll", *["503"] * 10_000)
        run(batch(here, server, patience_s=0.2))
    server.script.clear()
    server.batch_polls = 0
    write_balanced(here, [rows[0], rows[1] | {"color": "black"}])
    run(config)
    entries = read_journal(annotations_folder(config.generate) / "main.jsonl").entries
    assert len(entries) == 3
    assert len(server.batches) == 2
    assert len(vqa(here)) == 6
    write_balanced(here, rows)  # the old answer is still there
    run(config)
    assert len(server.batches) == 2


def test_jobs_that_fail_again_and_again(here: Path, server: GeminiServer) -> None:
    make(here, 2)
    server.plan("batch", *["job_fails"] * 10)
    with pytest.raises(UserError, match="3 batch jobs in a row ended as JOB_STATE_FAILED"):
        run(batch(here, server))
    assert len(server.batches) == 3


def test_budget(here: Path, server: GeminiServer) -> None:
    make(here, 12)
    settings = {"price_input": 100.0, "price_output": 0.0}
    with pytest.raises(UserError, match=r"generate\.budget_usd"):
        run(batch(here, server, budget_usd=0.3, **settings))
    entries = read_journal(annotations_folder(batch(here, server).generate) / "main.jsonl").entries
    spent = sum(entry.usage.input * 100 / 1e6 / 2 for entry in entries)
    assert 0.1 < spent <= 0.3
    run(batch(here, server, budget_usd=5.0, **settings))
    assert len(vqa(here)) == 36


def test_the_legacy_sdk_has_no_batches(here: Path, server: GeminiServer) -> None:
    make(here, 1)
    config = configure(here, annotator="gemini-legacy", base_url=server.url, batch=True)
    with pytest.raises(UserError, match=r"generate.batch needs generate.annotator: gemini"):
        run(config)
