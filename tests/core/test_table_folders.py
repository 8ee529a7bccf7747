"""What works with tables by their paths, where one is a folder of Parquet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from abo_vqa.cli import main
from abo_vqa.core import tables
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.core.tables import read_table, write_table
from abo_vqa.data.columns import read_columns
from tests.support.archives import listing
from tests.support.curation import shop

STAGE = """
import sys
import pandas as pd
from abo_vqa.core import tables
tables.PARTITION_ROWS = 10
tables.write_table(pd.DataFrame({"answer": ["None"] * int(sys.argv[1])}), "data/vqa.csv")
"""
READER = """
import json
from pathlib import Path
from abo_vqa.core.tables import read_table
Path("rows.json").write_text(json.dumps(len(read_table("data/vqa.csv"))))
"""


def dvc(folder: Path, *words: str) -> str:
    process = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=folder, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.slow
def test_dvc_runs_restores_and_notices_changes_in_either_layout(tmp_path: Path) -> None:
    (tmp_path / "write.py").write_text(STAGE)
    (tmp_path / "read.py").write_text(READER)
    python = sys.executable
    stages = {
        "write": {
            "cmd": f"{python} write.py ${{rows}}",
            "params": ["rows"],
            "outs": ["data/vqa.csv"],
        },
        "read": {"cmd": f"{python} read.py", "deps": ["data/vqa.csv"], "outs": ["rows.json"]},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (tmp_path / "data").mkdir()
    dvc(tmp_path, "init", "--no-scm", "-q")
    table = tmp_path / "data/vqa.csv"
    for rows in (5, 30, 40, 8):  # a file, folders, a file again
        (tmp_path / "params.yaml").write_text(f"rows: {rows}\n")
        dvc(tmp_path, "repro")
        assert table.is_dir() == (rows > 10)
        assert (tmp_path / "rows.json").read_text() == str(rows)
        locked = yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"]["write"]["outs"]
        assert locked[0]["md5"] == file_md5(table)
        assert "up to date" in dvc(tmp_path, "status")
    (tmp_path / "params.yaml").write_text("rows: 30\n")
    dvc(tmp_path, "repro")  # from the run cache
    assert len(read_table(table)) == 30
    next(table.iterdir()).chmod(0o644)
    write_table(pd.DataFrame({"answer": ["x"]}), table)
    assert "modified" in dvc(tmp_path, "status")
    dvc(tmp_path, "checkout", "--force")
    assert len(read_table(table)) == 30


def test_commands_write_and_read_folders_in_place_of_large_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "PARTITION_ROWS", 4)
    raw, out = shop(tmp_path, [listing(str(i)) for i in range(9)]), tmp_path / "out.csv"
    for _ in range(2):  # the second takes the place of the first
        assert main(["curate", "--raw", str(raw), "--out", str(out)]) == 0
        assert [part.name for part in out.iterdir()] == ["part-00000.parquet"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    assert main(["curate", "--raw", str(raw), "--out", str(tmp_path / "mine")]) == 2
    table = read_table(out)
    pd.testing.assert_frame_equal(pd.read_parquet(out), table, check_dtype=False)
    columns = read_columns(out, ("image_path",))
    pd.testing.assert_frame_equal(columns.frame, table)
    assert columns.lines.tolist() == list(range(1, 10))
