"""An export of an own catalogue is called by its name, and its credits are looked at."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from abo_vqa.cli import main
from tests.support import ROOT
from tests.support.annotation import make


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A split set of a catalogue, whose profile is a copy of the sample's."""
    rows = make(tmp_path, 4)
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"image_path": [row["image_path"] for row in rows]})
    table["question"], table["answer"] = "What color is it?", "red"
    table[:2].to_csv("data/train.csv", index=False)
    table[2:].to_csv("data/test.csv", index=False)
    for name in ("funnel", "generate", "audit"):
        shutil.copy(ROOT / "tests/support/tables" / f"{name}.json", "data")
    Path("data/raw/sample").rename("data/raw/mine")
    profile = Path("conf/profiles/sample.yaml").read_text().replace("raw/sample", "raw/mine")
    profile = re.sub("(?m)^  name: .*", "  name: Jane's chairs", profile)
    Path("conf/profiles/mine.yaml").write_text(profile)
    params = json.loads(Path("params.yaml").read_text())
    Path("params.yaml").write_text(json.dumps(params | {"profile": "mine"}))


def test_copied_credits_are_warned_of(mine, capsys):
    assert main(["export", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert "are those of sample.yaml, and will be published with your data" in printed
    card = Path("out/README.md").read_text()
    assert "pretty_name: Single-word questions about Jane's chairs" in card
    assert "Berkeley" not in card


def test_credits_of_ones_own_are_published_without_a_word(mine, capsys):
    profile = Path("conf/profiles/mine.yaml")
    text = re.sub("(?m)^  attribution: .*", "  attribution: Chairs by Jane.", profile.read_text())
    profile.write_text(text)
    assert main(["export", "--out", "out"]) == 0
    assert "warning" not in capsys.readouterr().out
    assert "Chairs by Jane." in Path("out/README.md").read_text()
