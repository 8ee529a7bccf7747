"""The batch mode against a server that speaks the Batch API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from abo_vqa.annotate.batch_mode.collection import BatchCollector
from abo_vqa.annotate.batch_mode.run import BatchRun
from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.annotate.tasks import Task, task_key
from abo_vqa.cli import main
from abo_vqa.core.config import Config
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.remote.batch_jobs import BatchJob, BatchJobFile
from abo_vqa.remote.journal import read_journal
from abo_vqa.remote.keys import key_id
from abo_vqa.stages.generate import run
from tests.support.annotation import (
    KEY,
    configure,
    journal_entries,
    make,
    vqa,
    write_balanced,
)
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
    assert len(entries) == len({entry.image_path for entry in entries}) == 4


def test_job_whose_creation_was_not_heard_of(here: Path, server: GeminiServer) -> None:
    make(here, 3)
    server.plan("batch", "drop")
    run(batch(here, server))
    assert len(server.batches) == 1  # found again by its name, not created twice
    assert len(vqa(here)) == 9


def lost_job(here: Path, config: Config, rows: list[dict[str, str]]) -> None:
    """Record a job as a kill leaves it that came before the service had named the job."""
    path = annotations_folder(config.generate) / "main.jobs"
    images = {row["image_path"]: task_key(row) for row in rows}
    BatchJobFile(path).add(BatchJob("abo-vqa-lost", key_id(KEY, config.generate), images, 0.1))


def test_damaged_record_of_jobs(here: Path, server: GeminiServer) -> None:
    make(here, 3)
    config = batch(here, server)
    path = annotations_folder(config.generate) / "main.jobs"
    path.parent.mkdir(parents=True, exist_ok=True)
    for text in ('{"jobs": 1}', '[{"label": "a"}]', "3"):
        path.write_text(text)
        with pytest.raises(UserError, match="isn't a list of batch jobs"):
            run(config)


def test_resuming_while_the_service_is_away_for_a_moment(here: Path, server: GeminiServer) -> None:
    rows = make(here, 3)
    config = batch(here, server)
    lost_job(here, config, rows)
    server.plan("list", "503")
    run(config)
    assert len(server.batches) == 1
    assert len(vqa(here)) == 9


def test_resuming_while_the_service_is_away(here: Path, server: GeminiServer) -> None:
    rows = make(here, 3)
    config = batch(here, server, patience_s=0.2)
    lost_job(here, config, rows)
    server.plan("list", *["503"] * 1_000)
    with pytest.raises(RetryLaterError, match=r"no answer for 0.2 s; last error: HTTP 503"):
        run(config)
    assert server.batches == {}


def test_job_that_could_not_be_looked_for_at_once(here: Path, server: GeminiServer) -> None:
    """Neither its creation was heard of, nor could it be looked for: it is found later."""
    make(here, 3)
    server.plan("batch", "drop")
    server.plan("list", "503")
    run(batch(here, server))
    assert len(server.batches) == 1
    assert len(vqa(here)) == 9


def test_outage_while_the_budget_allows_no_further_job(here: Path, server: GeminiServer) -> None:
    """Looking in vain for something to submit is no answer of the service."""
    make(here, 12)
    config = batch(
        here, server, patience_s=0.3, budget_usd=0.3, price_input=100.0, price_output=0.0
    )
    server.plan("poll", *["503"] * 60)
    with pytest.raises(RetryLaterError, match="Submitted jobs keep running"):
        run(config)


def test_refused_images_at_the_end(here: Path, server: GeminiServer) -> None:
    """Nothing else is left to be answered: the control request is, so it's these images."""
    rows = make(here, 12)
    write_balanced(here, rows[:9])
    config = batch(here, server)
    run(config)
    write_balanced(here, rows)
    for i in (9, 10, 11):
        server.plan(f"product {i}", *["400"] * 9)
    run(config)
    assert [call.product for call in server.generated()] == ["plain grey square"]
    entries = journal_entries(here, annotator="gemini", base_url=server.url, batch=True)
    refused = [entry for entry in entries if entry.problem.startswith("refused: HTTP 400")]
    assert len(refused) == 3
    run(config)
    assert len(server.batches) == 2
    assert len(vqa(here)) == 27


def test_everything_is_refused_at_the_end(here: Path, server: GeminiServer) -> None:
    """The control request, too: no image's fault, unless the user says so."""
    rows = make(here, 12)
    write_balanced(here, rows[:9])
    config = batch(here, server)
    run(config)
    write_balanced(here, rows)
    server.plan("*", *["400"] * 4)
    with pytest.raises(
        UserError, match=r"all requests of the job failed: HTTP 400.*--drop-failing"
    ):
        run(config)
    server.plan("*", *["400"] * 3, "503")
    with pytest.raises(RetryLaterError, match=r"can't be determined now.*HTTP 503"):
        run(config)
    settings = {"annotator": "gemini", "base_url": server.url, "batch": True}
    assert not any(entry.problem for entry in journal_entries(here, **settings))
    server.plan("*", *["400"] * 3)
    assert main(["generate", "--drop-failing"]) == 0
    assert server.generated()[-1].fault == "503"  # no control request: the user has decided
    run(config)
    assert len(vqa(here)) == 27
    assert len(server.batches) == 4


def test_errors_of_the_last_images(here: Path, server: GeminiServer) -> None:
    """The service works, as the control request shows: they count against the images."""
    rows = make(here, 8)
    write_balanced(here, rows[:6])
    config = batch(here, server)
    run(config)
    write_balanced(here, rows)
    for i in (6, 7):
        server.plan(f"product {i}", *["500"] * 9)
    run(config)
    assert len(server.batches) == 4  # three tries
    assert len(vqa(here)) == 18


def test_control_request_within_the_budget(here: Path, server: GeminiServer) -> None:
    make(here, 2)
    server.plan("*", *["400"] * 2)
    settings = {"price_input": 100.0, "price_output": 0.0}
    # One job of two images takes nearly all of the budget; having failed, it costs nothing.
    with pytest.raises(UserError, match="refused"):
        run(batch(here, server, budget_usd=0.4, **settings))
    assert len(server.batches) == 1  # its results were kept
    assert len(server.generated()) == 1


def test_a_reply_costs_the_same_time_however_many_images_there_are(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(here, 60)
    looks = 0
    is_open = Task.is_open.fget
    assert is_open is not None

    def counted(task: Task) -> bool:
        nonlocal looks
        looks += 1
        return bool(is_open(task))

    monkeypatch.setattr(Task, "is_open", property(counted))
    run(batch(here, server))
    assert looks < 60 * 20
    assert len(vqa(here)) == 180


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
