"""`abo-vqa generate` with options: estimates and shares of the work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from abo_vqa.annotate.model_run import annotations_folder
from abo_vqa.annotate.progress import ProgressReporter
from abo_vqa.annotate.sharding import in_shard, parse_shard
from abo_vqa.cli import main
from abo_vqa.core.service_config import GenerateConfig
from abo_vqa.remote.budget import total_cost
from abo_vqa.remote.journal import read_journal
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, defaults, make, vqa, write_balanced
from tests.support.servers.gemini import GeminiServer


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer() as running:
        yield running


def test_dry_run(here: Path, server: GeminiServer, capsys: Any) -> None:
    make(here, 10, annotator="gemini", base_url=server.url, requests_per_minute=5,
         price_input=100.0, price_output=0.0)  # fmt: skip
    assert main(["generate", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "images left        10 of 10" in said
    assert "requests           10 (1.00 per image)" in said
    assert "estimated" in said
    assert "0.03 hours at the quota of 1 key(s)" in said
    assert server.calls == []
    assert main(["generate", "--dry-run", "--count-tokens"]) == 0
    assert "counted by the vendor" in capsys.readouterr().out
    assert {call.path.rpartition(":")[2] for call in server.calls} == {"countTokens"}


def test_counting_tokens_passes_over_what_cannot_be_read(
    here: Path, server: GeminiServer, capsys: Any
) -> None:
    rows = make(here, 7, annotator="gemini", base_url=server.url)
    write_balanced(here, [{**rows[0], "image_path": "00/missing.jpg"}, *rows[1:]])
    assert main(["generate", "--dry-run", "--count-tokens"]) == 0
    assert "counted by the vendor" in capsys.readouterr().out
    assert len(server.calls) == 5
    write_balanced(here, [{**rows[0], "image_path": "00/missing.jpg"}])
    assert main(["generate", "--dry-run", "--count-tokens"]) == 0
    assert "estimated" in capsys.readouterr().out


def test_counting_tokens_while_the_service_fails(
    here: Path, server: GeminiServer, capsys: Any
) -> None:
    make(here, 2, annotator="gemini", base_url=server.url, model="gemini-0")
    assert main(["generate", "--dry-run", "--count-tokens"]) == 2
    assert "Check the API key, its account, and generate.model" in capsys.readouterr().err
    configure(here, annotator="gemini", base_url="http://127.0.0.1:9")
    assert main(["generate", "--dry-run", "--count-tokens"]) == 75
    assert "the vendor can't count the tokens now" in capsys.readouterr().err


def test_dry_run_learns_from_the_journal(here: Path, server: GeminiServer, capsys: Any) -> None:
    make(here, 6)
    server.plan("product 0", "too_few")
    settings = {"annotator": "gemini", "base_url": server.url}
    configure(here, **settings)
    assert main(["generate", "--shard", "1/2"]) == 0
    capsys.readouterr()
    assert main(["generate", "--dry-run"]) == 0
    assert "replies)" in capsys.readouterr().out


def test_shards_make_the_whole(here: Path, server: GeminiServer, capsys: Any) -> None:
    """Five people with folders of their own; their journals together are the whole table."""
    make(here, 12)
    settings = {"annotator": "gemini", "base_url": server.url}
    config = configure(here, **settings)
    run(config)
    whole = (here / "data/generated.csv").read_bytes()
    folder = annotations_folder(config.generate)
    sent = here / "sent"
    sent.mkdir()
    shutil.rmtree(folder)
    server.calls.clear()
    for i in (1, 2, 3):
        assert main(["generate", "--shard", f"{i}/3"]) == 0
        name = f"shard-{i}-of-3.jsonl"
        shutil.move(folder / name, sent / name)
        shutil.rmtree(folder)
    assert len(server.generated()) == 12
    assert "abo-vqa generate --merge" in capsys.readouterr().out

    two = [str(sent / f"shard-{i}-of-3.jsonl") for i in (1, 2)]
    assert main(["generate", "--merge", *two]) == 75
    assert "gap: " in capsys.readouterr().err
    three = [*two, str(sent / "shard-3-of-3.jsonl")]
    assert main(["generate", "--merge", *three]) == 0
    said = capsys.readouterr().out
    assert "12 of 12 images are done" in said
    assert "overlap" not in said
    run(config)
    assert len(server.generated()) == 12
    assert (here / "data/generated.csv").read_bytes() == whole

    # The first shard again, from someone who cut the work into two.
    shutil.rmtree(folder)
    assert main(["generate", "--shard", "1/2"]) == 0
    assert main(["generate", "--merge", *three]) == 0
    assert "were paid for twice" in capsys.readouterr().out
    run(config)
    assert (here / "data/generated.csv").read_bytes() == whole


def test_all_that_was_spent_is_counted(here: Path, server: GeminiServer, capsys: Any) -> None:
    """Also on shards that were taken over; the summary and the estimate agree."""
    make(here, 12)
    settings = {"annotator": "gemini", "base_url": server.url}
    config = configure(here, **settings)
    folder = annotations_folder(config.generate)
    assert main(["generate", "--shard", "1/2"]) == 0
    shard = (folder / "shard-1-of-2.jsonl").rename(here / "theirs.jsonl")
    assert main(["generate", "--merge", str(shard)]) == 75
    metrics = run(config).metrics
    entries = [entry for path in folder.glob("*.jsonl") for entry in read_journal(path).entries]
    assert len(entries) == 12
    assert metrics["cost_usd"] == pytest.approx(total_cost(entries, config.generate))
    assert metrics["input_tokens"] == sum(entry.usage.input for entry in entries)
    capsys.readouterr()
    assert main(["generate", "--dry-run"]) == 0
    assert f"spent so far       {metrics['cost_usd']:.4f} USD" in capsys.readouterr().out


def test_progress_counts_what_other_journals_cost() -> None:
    logged: list[float] = []
    settings = GenerateConfig.model_validate(
        defaults().generate.model_dump() | {"annotator": "gemini"}
    )
    reporter = ProgressReporter(
        2, lambda metrics, _: logged.append(metrics["cost_usd"]), settings, 0.5
    )
    reporter._logged -= 60
    reporter(1, 0.25)
    assert logged == [0.75]


def test_merging_a_grown_journal_again(here: Path, server: GeminiServer) -> None:
    make(here, 6)
    config = configure(here, annotator="gemini", base_url=server.url)
    assert main(["generate", "--shard", "1/1"]) == 0
    folder = annotations_folder(config.generate)
    data = (folder / "shard-1-of-1.jsonl").read_bytes()
    shutil.rmtree(folder)
    journal = here / "theirs.jsonl"
    journal.write_bytes(b"".join(data.splitlines(keepends=True)[:3]))
    assert main(["generate", "--merge", str(journal)]) == 75
    journal.write_bytes(data)
    assert main(["generate", "--merge", str(journal)]) == 0
    assert [path.name for path in folder.glob("merged-*")] == ["merged-1-1.jsonl"]
    run(config)
    assert len(vqa(here)) == 18
    assert len(server.generated()) == 6


def test_journal_of_other_settings_is_refused(
    here: Path, server: GeminiServer, capsys: Any
) -> None:
    make(here, 2)
    config = configure(here, annotator="gemini", base_url=server.url)
    run(config)
    theirs = annotations_folder(config.generate) / "main.jsonl"
    configure(here, annotator="gemini", base_url=server.url, temperature=1.5)
    assert main(["generate", "--merge", str(theirs)]) == 2
    assert "made with other settings: generate.temperature" in capsys.readouterr().err


def test_what_is_no_journal_is_not_merged(here: Path, capsys: Any) -> None:
    make(here, 2)
    configure(here, annotator="gemini")
    assert main(["generate", "--merge", "nofile.jsonl"]) == 2
    assert "no journal at nofile.jsonl" in capsys.readouterr().err
    (here / "empty.jsonl").write_bytes(b"")
    assert main(["generate", "--merge", "empty.jsonl"]) == 2
    assert "empty.jsonl isn't a journal" in capsys.readouterr().err
    (here / "other.jsonl").write_bytes(b"\xff\xfe\n")
    assert main(["generate", "--merge", "other.jsonl"]) == 2
    assert "other.jsonl isn't a journal" in capsys.readouterr().err


def test_prompt_in_another_encoding(here: Path, capsys: Any) -> None:
    make(here, 2)
    prompt = here / "conf" / "prompts" / "annotate.txt"
    prompt.write_bytes(prompt.read_bytes() + b"\xe9")
    configure(here, annotator="gemini")
    for options in (["--dry-run"], ["--merge", "theirs.jsonl"], ["--shard", "1/2"]):
        assert main(["generate", *options]) == 2
        assert "annotate.txt isn't UTF-8 text" in capsys.readouterr().err


def test_a_shard_is_the_same_whatever_the_table(here: Path) -> None:
    paths = [f"{i:02x}/{i:08x}.jpg" for i in range(500)]
    owners = [[i for i in range(1, 6) if in_shard(path, (i, 5))] for path in paths]
    assert all(len(owner) == 1 for owner in owners)
    assert all(70 < sum(owner == [i] for owner in owners) < 130 for i in range(1, 6))


@pytest.mark.parametrize("text", ["0/5", "6/5", "x", "1/0", "1", "-1/2"])
def test_wrong_shards(text: str) -> None:
    from abo_vqa.core.errors import UserError

    with pytest.raises(UserError, match="must be I/N"):
        parse_shard(text)


def test_options_are_for_paid_annotators(here: Path, capsys: Any) -> None:
    make(here, 1)
    assert main(["generate", "--dry-run"]) == 2
    assert "it costs nothing" in capsys.readouterr().err
