"""Another output limit: only what the former one cut off is paid for again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from abo_vqa.annotate.batch_mode.run import BatchRun
from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.cli import main
from abo_vqa.core.config import Config
from abo_vqa.core.errors import UserError
from abo_vqa.remote.batch_jobs import BatchJobFile
from abo_vqa.stages.generate import run
from tests.support.annotation import journal_entries, make, vqa
from tests.support.former_versions import make_former
from tests.support.openai_annotation import MODEL, openai_settings
from tests.support.servers.openai_chat import OpenAIServer

pytestmark = pytest.mark.usefixtures("quick_retries", "openai_key")
IMAGES = 8


@pytest.fixture
def server(openai_server: OpenAIServer) -> OpenAIServer:
    return openai_server


def with_limit(server: OpenAIServer, limit: int, **settings: Any) -> Config:
    return openai_settings(server, max_output_tokens=limit, price_output=100.0, **settings)


def run_with_one_cut_off(server: OpenAIServer, *faults: str) -> Config:
    """Run under a limit that cuts off the replies about one image."""
    make(Path.cwd(), IMAGES)
    server.plan("product 7", *faults)
    config = with_limit(server, 1024)
    run(config)
    server.script.clear()
    return config


def asked_about(server: OpenAIServer, config: Config) -> list[str]:
    """Run, and return the products that are asked about."""
    before = len(server.generated())
    run(config)
    return [call.product for call in server.generated()[before:]]


def test_only_what_was_cut_off_is_asked_for_again(
    here: Path, server: OpenAIServer, capsys: Any
) -> None:
    config = run_with_one_cut_off(server, *["thoughts"] * 9)
    assert len(vqa(here)) == 3 * (IMAGES - 1)
    advice = capsys.readouterr().err
    assert "Raise generate.max_output_tokens (1024): then only what was cut off is asked" in advice
    assert "then everything is asked for, and paid for, anew" in advice
    assert asked_about(server, config) == []  # the same limit would cut it off again
    with_limit(server, 2048)
    assert main(["generate", "--dry-run"]) == 0
    assert f"images left        1 of {IMAGES}" in capsys.readouterr().out
    assert asked_about(server, with_limit(server, 2048)) == ["product 7"]
    assert len(vqa(here)) == 3 * IMAGES
    assert asked_about(server, with_limit(server, 512)) == []


def test_pairs_before_the_cut_are_kept(here: Path, server: OpenAIServer) -> None:
    run_with_one_cut_off(server, *["one_pair"] * 9)
    config = with_limit(server, 2048)
    assert asked_about(server, config) == ["product 7"]
    assert "Write exactly 2 more" in str(server.generated()[-1].body)
    assert len(vqa(here)) == 3 * IMAGES


def test_the_budget_goes_on(here: Path, server: OpenAIServer) -> None:
    run_with_one_cut_off(server, *["thoughts"] * 9)
    spent = sum(e.usage.output for e in journal_entries(here, annotator="openai", model=MODEL))
    with pytest.raises(UserError, match=r"budget_usd"):
        run(with_limit(server, 2048, budget_usd=spent * 100 / 1e6))


def test_a_streak_of_the_former_limit_is_over(here: Path, server: OpenAIServer) -> None:
    """The run that goes on with it would stop at the first failure of another image."""
    make(here, IMAGES)
    server.plan("*", *["one_pair"] * 300)
    with pytest.raises(UserError, match="5 images in a row"):
        run(with_limit(server, 1024, concurrency=1))
    server.plan("*")
    server.plan("product 7", "one_pair")
    run(with_limit(server, 2048, concurrency=1))
    assert len(vqa(here)) == 3 * IMAGES


@pytest.mark.parametrize(("limit", "asked"), [(1024, []), (2048, ["product 7"])])
def test_a_former_journal_counts(
    here: Path, server: OpenAIServer, limit: int, asked: list[str], capsys: Any
) -> None:
    config = run_with_one_cut_off(server, *["thoughts"] * 9)
    assert main(["generate", "--dry-run"]) == 0
    spent = next(line for line in capsys.readouterr().out.splitlines() if "spent" in line)
    table = vqa(here)
    former = make_former(annotations_folder(config.generate), 1024)
    config = with_limit(server, limit)
    assert main(["generate", "--dry-run"]) == 0
    assert spent in capsys.readouterr().out
    with pytest.raises(UserError, match="budget_usd") if asked else pytest.MonkeyPatch.context():
        run(with_limit(server, limit, budget_usd=0.01))
    assert asked_about(server, config) == asked
    assert [row for row in vqa(here) if row in table] == table
    assert len(vqa(here)) == len(table) + 3 * len(asked)
    assert main(["generate", "--merge", str(former / "main.jsonl")]) == 0
    assert "paid for twice" not in capsys.readouterr().out
    assert asked_about(server, config) == []


def test_no_job_is_paid_for_before_the_new_limit_is_tried(here: Path, server: OpenAIServer) -> None:
    make(here, IMAGES)
    server.plan("*", *["one_pair"] * 300)
    with pytest.raises(UserError, match="images in a row"):
        run(with_limit(server, 1024))
    before = len(server.generated())
    with pytest.raises(UserError, match="5 images in a row"):
        run(with_limit(server, 1100, batch=True))
    assert (len(server.batches), len(server.generated()) - before) == (0, 5)
    server.script.clear()
    run(with_limit(server, 2048, batch=True))
    assert len(vqa(here)) == 3 * IMAGES


def test_a_former_shard_is_merged(here: Path, server: OpenAIServer) -> None:
    make(here, IMAGES)
    config = with_limit(server, 1024)
    assert main(["generate", "--shard", "1/1"]) == 0
    former = make_former(annotations_folder(config.generate), 1024).rename(here / "theirs")
    with_limit(server, 2048)
    assert main(["generate", "--merge", str(former / "shard-1-of-1.jsonl")]) == 0
    assert asked_about(server, with_limit(server, 2048)) == []


@pytest.mark.parametrize("is_former", [False, True])
def test_a_job_under_way_keeps_its_limit(
    here: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, is_former: bool
) -> None:
    make(here, IMAGES)
    server.plan("product 7", "thoughts")
    config = with_limit(server, 1024, batch=True)
    folder = annotations_folder(config.generate)
    jobs = folder / "main.jobs"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(BatchRun, "_poll", interrupt)
        run(config)
    assert len(json.loads(jobs.read_text())) == len(server.batches) == 1
    if is_former:
        make_former(folder, 1024)
    run(with_limit(server, 2048, batch=True))
    assert len(server.batches) == 2
    assert len(vqa(here)) == 3 * IMAGES
    assert not BatchJobFile.load(jobs).jobs
    limits = [entry.limit for entry in journal_entries(here, annotator="openai", model=MODEL)]
    assert sorted(limits) == [0] * IMAGES + [1024]
