"""Interrupted exports: what was whole is kept, and the files are those of an undisturbed run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from tests.support.exports import make_split_project

# Small steps, and a process that kills itself when it comes to a certain image.
_KILLED = """
import os, signal, sys
from abo_vqa.cli import main
from abo_vqa.data.archive import Archive
from abo_vqa.reporting.publish import exchange, parquet
exchange.SAVE_EVERY = 2
parquet.GROUP_BYTES, parquet._SHARD_BYTES = 1, 2000
left, image = int(sys.argv[2]), Archive.image
def counted(archive, path):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return image(archive, path)
Archive.image = counted
sys.exit(main(["export", "--format", sys.argv[1]]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = make_split_project(tmp_path_factory.mktemp("project"), 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        yield made


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_until(form: str, images: int) -> int:
    command = [sys.executable, "-c", _KILLED, form, str(images)]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("form", "killed_at", "kept"),
    [  # 12 of 24 images are for training
        ("llava", 7, 6),
        pytest.param("vlmeval", 17, 16, marks=pytest.mark.slow),
        pytest.param("parquet", 17, 14, marks=pytest.mark.slow),
    ],
)
def test_killed_exports_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], form: str, killed_at: int, kept: int
) -> None:
    out = Path("data/export" if form == "parquet" else f"data/export-{form}")
    assert run_until(form, 1000) == 0
    expected = contents(out)
    shutil.rmtree(out)
    assert run_until(form, killed_at) == -9
    assert not out.exists()
    assert run_until(form, 24 - kept) == 0  # reads no more images than these
    assert contents(out) == expected
    assert sorted(path.name for path in Path("data").glob(".export*")) == []
    # Nor does an unfinished export go on with other rows.
    assert run_until(form, killed_at) == -9
    table = Path("data/test.csv")
    original = table.read_text()
    table.write_text(original.replace("striped", "spotted"))
    assert main(["export", "--format", form]) == 0
    assert "interrupted export" not in capsys.readouterr().out
    changed = [path for path, data in contents(out).items() if b"spotted" in data]
    table.write_text(original)
    assert form == "parquet" or changed


def test_one_export_at_a_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    staged = Path("data/.once.partial")
    staged.mkdir()
    with FileLock(staged / "export.lock"):
        assert main(["export", "--format", "llava", "--out", "data/once"]) == UserError.exit_code
    assert "another process is exporting to data/once" in capsys.readouterr().err
    assert main(["export", "--format", "llava", "--out", "data/once"]) == 0
