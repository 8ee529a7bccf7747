"""Failures that are no image's fault: the account, the settings, the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.annotate.prompt import settings_record
from abo_vqa.annotate.tasks import task_key
from abo_vqa.cli import main
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.data.pairs import Pair
from abo_vqa.remote.journal import AnnotationJournal, JournalEntry
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, journal_entries, make, vqa
from tests.support.servers.gemini import GeminiServer

ANNOTATORS = ("gemini", "gemini-legacy")
pytestmark = pytest.mark.usefixtures("quick_retries")
ACCOUNT = ("region", "billing", "402", "denied", "prepaid")


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer(delay=0.1) as running:
        yield running


def problems(folder: Path, **settings: Any) -> list[str]:
    return [entry.problem for entry in journal_entries(folder, **settings) if entry.problem]


@pytest.mark.parametrize("annotator", ANNOTATORS)
@pytest.mark.parametrize("fault", ACCOUNT)
@pytest.mark.parametrize("before", [0, 5, 11])
def test_refused_account_leaves_no_image_out(
    here: Path, server: GeminiServer, annotator: str, fault: str, before: int
) -> None:
    make(here, 12)
    settings = {"annotator": annotator, "base_url": server.url, "concurrency": 2}
    config = configure(here, **settings)
    server.plan("*", *[""] * before, *[fault] * 100)
    with pytest.raises(UserError, match="It is the account that is refused") as caught:
        run(config)
    assert caught.value.exit_code != 0
    assert len(server.generated()) <= before + 2
    assert problems(here, **settings) == []
    server.script.clear()
    run(config)
    assert len(vqa(here)) == 36
    assert len([call for call in server.generated() if not call.fault]) == 12  # none paid twice


@pytest.mark.parametrize("fault", ["400", "422"])
@pytest.mark.parametrize(("images", "before"), [(12, 5), (40, 30), (12, 9), (12, 10)])
def test_refusals_in_a_row_are_no_images_fault(
    here: Path, server: GeminiServer, fault: str, images: int, before: int
) -> None:
    """Also where fewer are left than make a run: then a request that is in order decides."""
    make(here, images)
    settings = {"annotator": "gemini", "base_url": server.url, "concurrency": 3}
    config = configure(here, **settings)
    server.plan("*", *[""] * before, *[fault] * 100)
    with pytest.raises(UserError, match=r"were all refused: HTTP 4.*--drop-failing"):
        run(config)
    assert len(server.generated(fault)) <= 10
    assert problems(here, **settings) == []
    server.script.clear()
    run(config)
    assert len(vqa(here)) == 3 * images


def test_single_refusals_are_the_images_own(here: Path, server: GeminiServer) -> None:
    make(here, 40)
    refused = (3, 9, 10, 20, 21, 22, 35)
    for i in refused:
        server.plan(f"product {i}", *["400"] * 9)
    settings = {"annotator": "gemini", "base_url": server.url, "concurrency": 2}
    config = configure(here, **settings)
    run(config)
    run(config)
    assert len(server.generated("400")) == len(refused)
    assert len(vqa(here)) == 3 * (40 - len(refused))


def test_few_refused_images_at_the_end(here: Path, server: GeminiServer) -> None:
    """Nothing is left to be answered in between: the control is, so it's these images."""
    make(here, 8)
    for i in (5, 6, 7):
        server.plan(f"product {i}", *["400"] * 9)
    settings = {"annotator": "gemini", "base_url": server.url, "concurrency": 1}
    run(configure(here, **settings))
    assert len(problems(here, **settings)) == 3
    assert server.generated()[-1].product == "plain grey square"


def test_undecided_refusals_when_the_service_goes_away(here: Path, server: GeminiServer) -> None:
    make(here, 8)
    server.plan("*", *[""] * 5, *["400"] * 3, "503")
    settings = {"annotator": "gemini", "base_url": server.url, "concurrency": 1}
    with pytest.raises(RetryLaterError, match="3 images were refused"):
        run(configure(here, **settings))
    assert problems(here, **settings) == []


def test_left_out_and_asked_again_by_choice(
    here: Path, server: GeminiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 12)
    for i in range(4, 12):
        server.plan(f"product {i}", *["400"] * 20)
    settings = {"annotator": "gemini", "base_url": server.url, "concurrency": 1}
    config = configure(here, **settings)
    with pytest.raises(UserError):
        run(config)
    assert main(["generate", "--drop-failing"]) == 0
    asked = len(server.generated())
    run(config)
    assert len(vqa(here)) == 12
    assert len(server.generated()) == asked
    server.script.clear()
    assert main(["generate", "--retry-refused"]) == 0
    assert "12 of 12 images" in capsys.readouterr().out
    run(config)
    assert len(vqa(here)) == 36


def test_journals_of_former_versions(here: Path, server: GeminiServer) -> None:
    """They hold an account's refusals for good; a single one with an answer after it stays."""
    rows = make(here, 12)
    config = configure(here, annotator="gemini", base_url=server.url)
    images = [(row["image_path"], task_key(row)) for row in rows]
    refused = "refused: HTTP 400 INVALID_ARGUMENT: No."
    found = [JournalEntry(*images[0], problem=refused, time=1.0)]
    found.append(JournalEntry(*images[1], (Pair("Is it red or blue?", "red"),), time=2.0))
    found += [
        JournalEntry(*image, problem=refused, time=3.0 + i) for i, image in enumerate(images[2:8])
    ]
    found.append(JournalEntry(*images[8], (Pair("Is it red or blue?", "red"),), time=20.0))
    precondition = "refused: HTTP 400 FAILED_PRECONDITION: User location is not supported."
    found.append(JournalEntry(*images[9], problem=precondition, time=21.0))
    path = annotations_folder(config.generate) / "main.jsonl"
    with AnnotationJournal(path, settings_record(config.generate)) as out:
        for entry in found:
            out.append(entry)
    run(config)
    assert {row["image_path"] for row in vqa(here)} == {path for path, _ in images[1:]}


FRUITLESS = {
    "thoughts": r"MAX_TOKENS.*generate\.max_output_tokens \(1024\).*generate\.thinking",
    "recitation": r"RECITATION.*generate\.prompt",
    "safety": r"SAFETY.*generate\.safety",
    "blocked": r"PROHIBITED_CONTENT.*generate\.safety",
    "empty": r"NO_CANDIDATE.*generate\.model",
    "empty_text": r"STOP.*no JSON",
    "refusal": r"STOP.*no JSON.*I'm sorry",
    "all_multi_word": r"multi_word.*exactly one word.*generate\.prompt",
}


@pytest.mark.parametrize("concurrency", [1, 32])
@pytest.mark.parametrize("fault", FRUITLESS)
def test_replies_without_pairs_stop_early(
    here: Path, server: GeminiServer, fault: str, concurrency: int
) -> None:
    make(here, 30)
    server.plan("*", *[fault] * 500)
    settings = {"annotator": "gemini", "base_url": server.url, "concurrency": concurrency}
    config = configure(here, **settings)
    with pytest.raises(UserError, match=FRUITLESS[fault]) as caught:
        run(config)
    assert "5 images in a row" in str(caught.value)
    # With pairs in it a reply is worth another try at once.
    assert len(server.generated()) <= (25 if fault == "all_multi_word" else 5)
    server.script.clear()
    if fault != "all_multi_word":
        run(config)
        assert len(vqa(here)) == 90


@pytest.mark.parametrize("fault", ["thoughts", "recitation", "blocked"])
def test_replies_without_pairs_in_the_middle(here: Path, server: GeminiServer, fault: str) -> None:
    make(here, 40)
    server.plan("*", *[""] * 12, *[fault] * 500)
    # Otherwise the twelfth good reply may come after the first empty one, which it would prove to
    # be the image's own.
    server.on_call = lambda call: time.sleep(0.2 if call.fault else 0.0)
    config = configure(here, annotator="gemini", base_url=server.url, concurrency=2)
    with pytest.raises(UserError, match="5 images in a row"):
        run(config)
    # Two may be on their way when the fifth comes back.
    assert len(server.generated(fault)) <= 7
    server.script.clear()
    run(config)
    assert len(vqa(here)) == 120


@pytest.mark.parametrize("annotator", ANNOTATORS)
@pytest.mark.parametrize(("fault", "paid"), [("thoughts", 2), ("recitation", 2), ("empty_text", 3)])
def test_the_same_empty_reply_is_not_paid_for_again_and_again(
    here: Path, server: GeminiServer, annotator: str, fault: str, paid: int, capsys: Any
) -> None:
    make(here, 9)
    server.plan("product 4", *[fault] * 50)
    run(configure(here, annotator=annotator, base_url=server.url, attempts=5))
    assert len(server.generated(fault)) == paid
    assert len(vqa(here)) == 24
    assert "1 images got no pair: no_pairs" in capsys.readouterr().err


def test_a_small_set_says_why_it_got_nothing(
    here: Path, server: GeminiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make(here, 3)
    server.plan("*", *["thoughts"] * 50)
    with pytest.raises(UserError, match="none of the 3 images"):
        run(configure(here, annotator="gemini", base_url=server.url))
    assert len(server.generated()) == 6
    assert "generate.max_output_tokens" in capsys.readouterr().err


@pytest.mark.parametrize("annotator", ANNOTATORS)
def test_stray_commas_are_read(here: Path, server: GeminiServer, annotator: str) -> None:
    make(here, 6)
    server.plan("*", *["commas"] * 6)
    run(configure(here, annotator=annotator, base_url=server.url))
    assert len(vqa(here)) == 18
    assert len(server.generated()) == 6


@pytest.mark.parametrize("annotator", ANNOTATORS)
def test_quota_of_nothing(here: Path, server: GeminiServer, annotator: str) -> None:
    make(here, 6)
    server.plan("*", *["no_quota"] * 50)
    settings = {"annotator": annotator, "base_url": server.url, "concurrency": 32}
    config = configure(here, **settings)
    with pytest.raises(UserError, match=r"limit: 0, model.*no free quota.*is 0, today and any day"):
        run(config)
    assert len(server.generated()) == 1
    server.script.clear()
    run(config)  # the plan was changed: no need to wait for tomorrow
    assert len(vqa(here)) == 18


@pytest.mark.parametrize("annotator", ANNOTATORS)
def test_minute_among_several_quotas(here: Path, server: GeminiServer, annotator: str) -> None:
    make(here, 6)
    server.plan("*", "", "several", "several")
    run(configure(here, annotator=annotator, base_url=server.url, concurrency=1))
    assert len(vqa(here)) == 18


def test_spent_day_among_several_quotas_with_a_short_delay(
    here: Path, server: GeminiServer
) -> None:
    make(here, 6)
    server.plan("*", "", *["either"] * 500)
    config = configure(here, annotator="gemini", base_url=server.url, concurrency=1)
    with pytest.raises(RetryLaterError, match=r"daily quota is spent.*5 images"):
        run(config)
    assert len(server.generated()) <= 6


def test_pause_that_is_longer_than_patience(here: Path, server: GeminiServer) -> None:
    make(here, 6)
    server.plan("*", "", "tomorrow")
    config = configure(here, annotator="gemini", base_url=server.url, concurrency=1)
    with pytest.raises(
        RetryLaterError, match=r"5 images.*Run it again after 20.*The service says: HTTP"
    ):
        run(config)


@pytest.mark.parametrize("fault", ["region", "402", "denied", "400"])
@pytest.mark.parametrize("before", [0, 6])
def test_batch_of_a_refused_account(
    here: Path, server: GeminiServer, fault: str, before: int
) -> None:
    make(here, 12)
    settings = {"annotator": "gemini", "base_url": server.url, "batch": True}
    config = configure(here, **settings)
    server.plan("*", *[""] * before, *[fault] * 6, *[fault] * (6 - before))
    with pytest.raises(UserError, match="No image was dropped"):
        run(config)
    assert problems(here, **settings) == []
    assert len(server.batches) == 1
    server.script.clear()
    run(config)
    assert len(vqa(here)) == 36
    assert len(server.batches) == 2


def test_batch_that_is_refused_as_a_whole(here: Path, server: GeminiServer) -> None:
    make(here, 3)
    server.plan("batch", "region", "400", "no_quota", "day")
    config = configure(here, annotator="gemini", base_url=server.url, batch=True)
    for said in ("User location", "Unable to process", "limit: 0"):
        with pytest.raises(UserError, match=said):
            run(config)
    with pytest.raises(RetryLaterError, match="daily quota is spent"):
        run(config)
    run(config)
    assert len(vqa(here)) == 9


def test_batch_of_errors_that_pass(here: Path, server: GeminiServer) -> None:
    make(here, 12)
    settings = {"annotator": "gemini", "base_url": server.url, "batch": True}
    server.plan("*", *[""] * 3, *["503"] * 9)
    with pytest.raises(RetryLaterError, match="requests in a row failed: HTTP 503"):
        run(configure(here, **settings))
    assert problems(here, **settings) == []
    run(configure(here, **settings))
    assert len(vqa(here)) == 36


def test_batch_without_pairs_is_not_repeated(here: Path, server: GeminiServer) -> None:
    make(here, 12)
    config = configure(here, annotator="gemini", base_url=server.url, batch=True)
    server.plan("*", *["thoughts"] * 100)
    with pytest.raises(UserError, match=r"MAX_TOKENS.*generate\.thinking"):
        run(config)
    assert len(server.batches) == 1
    server.script.clear()
    run(config)
    assert len(vqa(here)) == 36
