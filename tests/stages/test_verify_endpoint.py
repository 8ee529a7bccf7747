"""Endpoints as verifiers, against a server of chat completions: quotas, money, kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.tables import read_table
from abo_vqa.models.answering.journal import Journal
from abo_vqa.stages import opinions, verify
from tests.support import ROOT, workspaces
from tests.support.annotation import KEY
from tests.support.endpoints import add_endpoint, asked, enter_project
from tests.support.servers.gemini import GeminiServer
from tests.support.servers.openai_chat import OpenAIServer
from tests.support.stages import run_stage

QUESTIONS = 21  # of 8 images, one of which doesn't decode


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspaces.workspace(tmp_path_factory.mktemp("project"), "vilt", images=8)
    (root / "data/vqa.csv").rename(root / "data/generated.csv")
    (root / "data/reviewed.csv").write_text("image_path,question,answer,wrong,drawn\n")
    (root / "data/rejects.csv").write_text("image_path,question,answer,reason\n")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["verify"]["models"] = ["hosted", "vilt", "blind"]
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


@pytest.fixture
def here(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = shutil.copytree(project, tmp_path / "work")
    return enter_project(root, monkeypatch)


def verified() -> None:
    for stage in (opinions, verify):
        run_stage(stage, load_config())


def journal(name: str) -> int:
    """How many rows a verifier has answered into its journal."""
    [folder] = Path(f".cache/abo-vqa/opinions-{name}").glob("*") or [Path("missing")]
    return len(Journal(folder).read())


def test_a_service_gives_its_opinion(here: Path) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")
        server.plan("*", "", "500", "minute", "drop", "400")
        verified()
        table = read_table("data/vqa.csv")
        assert set(table["answer_hosted"]) <= {"red", "blue", "two", "yes", "wood", ""}
        # The image that doesn't decode, and the request that the service refuses.
        record = read_json("data/verification.json")["verifiers"]
        assert record["hosted"]["failed"] == 3 + 1
        assert list(record) == ["hosted", "vilt", "blind"]
        assert len(asked(server)) == QUESTIONS
        # Again: nobody is asked for what was paid, but for what failed.
        sent = len(server.calls)
        verified()
        assert len(server.calls) - sent == 1


def test_an_opinion_in_sentences_is_noticed(here: Path) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai")
        server.plan("*", *["sentence"] * 99)
        summary = run_stage(opinions, load_config())
        assert summary.metrics["hosted/long"] == QUESTIONS
        assert "set answer: last_word under models.hosted" in summary.message
        assert "vilt:" not in summary.message
        assert "blind:" not in summary.message


def test_what_a_verifier_costs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run asks nobody; the run's bar and last line have what was spent."""
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai", price_input=100.0, price_output=10.0)
        assert main(["opinions", "--dry-run"]) == 0
        text = capsys.readouterr().out
        assert f"gpt-5-mini at {server.url}" in text
        assert "requests           24 of 24 questions" in text
        assert "USD, at 100 USD per million tokens in and 10 out" in text
        assert "vilt" not in text
        assert server.calls == []
        server.plan("*", "", "", "", "400")
        summary = run_stage(opinions, load_config())
        spent = summary.metrics["hosted/cost_usd"]
        assert spent > 0
        assert f"hosted: {spent:.4f} USD so far, for {QUESTIONS - 1} replies" in summary.message
        assert f"{spent:.4f} USD" in capsys.readouterr().err
        sent = len(server.calls)
        assert main(["opinions", "--dry-run"]) == 0
        text = capsys.readouterr().out
        # The refused one, and three about the image that doesn't decode, which nobody tries to.
        assert "requests           4 of 24 questions" in text
        assert f"spent so far       {spent:.4f} USD" in text
        assert len(server.calls) == sent


def test_a_spent_quota_lets_the_others_answer(here: Path) -> None:
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai", concurrency=1)
        server.plan("*", "", "", *["day"] * 99)
        with pytest.raises(RetryLaterError, match=r"hosted: .*daily quota is spent") as caught:
            opinions.run(load_config())
        assert "take it out of verify.models" in str(caught.value)
        assert KEY not in str(caught.value)
        assert journal("vilt") == 24
        assert len(asked(server)) == 3
        assert not Path("data/opinions.csv").exists()
        shutil.rmtree(".cache/abo-vqa/generate/quota")  # the next day
        server.plan("*")
        verified()
        again = [question for question, n in asked(server).items() if n > 1]
        assert len(again) == 1  # the one that met the end of the quota
        assert len(asked(server)) == QUESTIONS
    assert len(read_table("data/vqa.csv")) == 24


def test_a_budget_stops_with_everything_saved(here: Path) -> None:
    price = {"price_input": 100.0, "price_output": 0.0, "concurrency": 1}
    with GeminiServer() as server:
        add_endpoint(server.url, budget_usd=0.4, **price)
        with pytest.raises(UserError, match=r"verifier hosted: .*budget_usd: 0\.4") as caught:
            opinions.run(load_config())
        assert "take hosted out of verify.models" in str(caught.value)
        assert 0 < sum(asked(server).values()) < QUESTIONS
        add_endpoint(server.url, budget_usd=40, **price)
        verified()
        assert set(asked(server).values()) == {1}
        assert len(asked(server)) == QUESTIONS


@pytest.mark.slow
def test_killed_and_resumed_it_writes_the_same_bytes(here: Path) -> None:
    """A request that was on its way when the process died may be sent again, no other."""
    command = [sys.executable, str(ROOT / "src/abo_vqa"), "opinions"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    output = Path("data/opinions.csv")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["verify"]["models"] = ["vilt", "hosted", "blind"]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    concurrency, kills, files = 2, 0, set()
    with OpenAIServer(latency=0.15) as server:
        add_endpoint(server.url, "openai", concurrency=concurrency)
        while True:
            sent = len(asked(server))
            process = subprocess.Popen(command, env=environment)
            while process.poll() is None:
                # First while the local model answers, then while the service does.
                files = set(Path(".cache/abo-vqa").glob("opinions-vilt/*/answers-0.jsonl"))
                if (not kills and files) or len(asked(server)) >= sent + 7:
                    break
                time.sleep(0.01)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not output.exists()
            kills += 1
        assert process.returncode == 0
        assert kills >= 3
        counts = asked(server)
        assert len(counts) == QUESTIONS
        assert sum(counts.values()) - QUESTIONS <= kills * concurrency
    resumed = output.read_bytes()
    shutil.rmtree(".cache")
    with OpenAIServer() as clean:
        add_endpoint(clean.url, "openai")
        verified()
    assert output.read_bytes() == resumed
