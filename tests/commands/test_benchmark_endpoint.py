"""`abo-vqa benchmark` with a model behind an API: what stops it doesn't stop the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abo_vqa.cli import main
from abo_vqa.core.tables import read_table
from abo_vqa.reporting import writing
from tests.support.annotation import KEY
from tests.support.benchmarks import BENCHMARK, BLIND, exam
from tests.support.endpoints import add_endpoint
from tests.support.servers.openai_chat import OpenAIServer


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = exam(tmp_path, "vilt")
    monkeypatch.chdir(root)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(writing, "draw_figures", lambda _: [])
    return root


def test_a_quota_that_is_spent_leaves_the_other_models_results(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*BENCHMARK, "--models", "hosted,vilt", "--out", "results"]
    with OpenAIServer() as server:
        add_endpoint(server.url, "openai", concurrency=1)
        server.plan("*", "", "", "", *["day"] * 9)
        assert main(command) == 1
        printed = capsys.readouterr().err
        assert "hosted has no results: gpt-5-mini: the key's daily quota is spent" in printed
        assert "Run it again after" in printed
        metrics = json.loads((here / "results/metrics.json").read_text())
        assert list(metrics) == ["vilt", *BLIND]
        first = (here / "results/predictions/vilt.csv").read_bytes()
        # The next day.
        server.plan("*", *["sentence"] * 99)
        assert len(server.generated()) == 4
        (here / ".cache/abo-vqa/generate/quota/calls.sqlite").unlink()
        assert main(command) == 0
        asked = len(server.generated())
        assert "set answer: last_word under models.hosted" in capsys.readouterr().err
    table = read_table(here / "results/predictions/hosted.csv")
    assert len(table) == 26
    assert asked - 1 == sum(table["error"] == "")  # the one that met the quota; none twice
    assert (here / "results/predictions/vilt.csv").read_bytes() == first
