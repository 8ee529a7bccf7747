"""What docs/notebooks.md shows, as it stands there."""

import re
import shlex
import subprocess

import pytest
import t4

from abo_vqa.cli import main
from tests.support import ROOT

COMMANDS = [
    "session save --embeddings DIR",
    "session run --hours 8.5 --every 10 DIR dvc repro",
    "session restore DIR",
    "session restore --force DIR",
]
PAGE = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")


def test_commands_of_the_page(tmp_path, monkeypatch, capfd):
    root = tmp_path / "checkout"
    (root / ".dvc").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(root)
    lines = re.findall(r"(?m)^abo-vqa (session .*)$", PAGE)
    assert lines == COMMANDS
    for line in lines:
        words = shlex.split(line.replace("DIR", str(tmp_path / "saved")))
        words = ["true" if word == "dvc" else word for word in words]
        assert main(words) == 0, capfd.readouterr().err


@pytest.mark.parametrize("part", ["memory", "hours"])
def test_tables_of_the_page(part, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["t4.py", "--fraction", "0.1"])
    t4.main()
    tables = [block for block in capsys.readouterr().out.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    assert tables[part == "hours"].strip() in PAGE
