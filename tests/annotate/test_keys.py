"""API keys and their quotas: what is left out, what waits, and that no key is ever written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from abo_vqa.cli import main
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.stages.generate import run
from tests.support.annotation import KEY, configure, journal_entries, make, vqa
from tests.support.servers.gemini import GeminiServer

ANNOTATORS = ("gemini", "gemini-legacy")

pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer(delay=0.1, slow=0.2, hang=3) as running:
        yield running


@pytest.mark.parametrize("annotator", ANNOTATORS)
@pytest.mark.parametrize("fault", ["day", "day_bare"])
def test_daily_quota_stops_cleanly(
    here: Path, server: GeminiServer, annotator: str, fault: str
) -> None:
    make(here, 6)
    server.plan("product 4", fault)
    config = configure(here, annotator=annotator, base_url=server.url, concurrency=1)
    with pytest.raises(
        RetryLaterError, match=r"daily quota is spent.*2 images.*Run it again after 20\d\d"
    ):
        run(config)
    assert len(journal_entries(here, annotator=annotator)) == 4
    before = len(server.generated())
    with pytest.raises(RetryLaterError):  # still spent: nothing is sent
        run(config)
    assert len(server.generated()) == before
    assert not (here / "data/generated.csv").exists()


def test_configured_daily_quota(here: Path, server: GeminiServer) -> None:
    make(here, 6)
    config = configure(here, annotator="gemini", base_url=server.url, requests_per_day=4)
    with pytest.raises(RetryLaterError, match="2 images are open"):
        run(config)
    assert len(server.generated()) == 4


def test_second_key_goes_on(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = KEY.replace("0", "1")
    monkeypatch.setenv("GEMINI_API_KEYS", f"{KEY}, {other}")
    make(here, 8)
    server.plan("*", "day")
    run(configure(here, annotator="gemini", base_url=server.url, concurrency=1))
    assert len(vqa(here)) == 24
    used = [call.key for call in server.generated()]
    assert used == [used[0], *[other if used[0] == KEY else KEY] * 8]


@pytest.mark.parametrize("annotator", ANNOTATORS)
def test_several_keys_share_the_work(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch, annotator: str
) -> None:
    other = KEY.replace("0", "1")
    monkeypatch.setenv("GEMINI_API_KEYS", f"{KEY},{other}")
    make(here, 8)
    run(configure(here, annotator=annotator, base_url=server.url, requests_per_minute=4))
    used = [call.key for call in server.generated()]
    assert (used.count(KEY), used.count(other)) == (4, 4)


def test_keys_of_one_project_share_its_quota(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("GEMINI_API_KEYS", f"{KEY},{KEY.replace('0', '1')}")
    make(here, 8)
    service = {"annotator": "gemini", "base_url": server.url, "requests_per_day": 6}
    configure(here, **service)
    assert main(["generate", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "at the quota of 2 key(s)" in printed
    assert "if each key has a quota of its own" in printed
    config = configure(here, **service, keys_share_quota=True)
    assert main(["generate", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "at the quota of 1 key(s)" in printed
    assert "over 2 days" in printed
    assert "quota of its own" not in printed
    with pytest.raises(RetryLaterError, match="2 images are open"):
        run(config)
    assert len(server.generated()) == 6
    assert len({call.key for call in server.generated()}) == 2  # both are used


def test_bad_key_is_left_out(
    here: Path, server: GeminiServer, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    other = KEY.replace("0", "1")
    server.keys = {other}
    monkeypatch.setenv("GEMINI_API_KEYS", f"{KEY},{other}")
    make(here, 3)
    run(configure(here, annotator="gemini", base_url=server.url, concurrency=1))
    assert len(vqa(here)) == 9
    printed = capsys.readouterr()
    assert "key number 1 is left out" in printed.err
    assert KEY not in printed.out + printed.err


@pytest.mark.parametrize("annotator", ANNOTATORS)
def test_no_usable_key(here: Path, server: GeminiServer, annotator: str) -> None:
    make(here, 3)
    server.keys = set()
    with pytest.raises(UserError, match="no usable API key") as caught:
        run(configure(here, annotator=annotator, base_url=server.url))
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_key(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    make(here, 1)
    with pytest.raises(UserError, match="set GEMINI_API_KEY"):
        run(configure(here, annotator="gemini", base_url="http://127.0.0.1:9"))


@pytest.mark.parametrize("annotator", ANNOTATORS)
def test_retired_model(here: Path, server: GeminiServer, annotator: str) -> None:
    make(here, 3)
    config = configure(here, annotator=annotator, base_url=server.url, model="gemini-2.0-flash")
    with pytest.raises(UserError, match=r"generate.model: 'gemini-2.0-flash' doesn't exist"):
        run(config)


def test_no_key_in_anything_written(
    here: Path, server: GeminiServer, capsys: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real command, with MLflow, faults whose messages quote the key, and all logs."""
    from abo_vqa.cli import main

    caplog.set_level(logging.DEBUG)
    make(here, 6, annotator="gemini", base_url=server.url, concurrency=2)
    (here / "dvc.yaml").unlink()
    monkeypatch.setenv("DVC_ROOT", str(here))
    server.plan("*", "500", "minute", "400", "", "bad_key")
    assert main(["generate"]) == 2
    assert main(["generate"]) == 0
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
    assert KEY not in caplog.text
    written = [path for path in here.rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.db" for path in written)
    assert any(path.name == "main.jsonl" for path in written)
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
