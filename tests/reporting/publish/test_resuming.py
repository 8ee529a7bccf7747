"""Interrupted exports: what was whole is kept, and the files are those of an undisturbed run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from abo_vqa.cli import main
from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import Archive
from abo_vqa.reporting.publish import exchange, parquet
from tests.support.exports import make_split_project
from tests.support.forks import Fork, command, kill_at_call


def export(form: str, images: int) -> None:
    """For a process of its own: small steps, and SIGKILL when it has read so many images."""
    exchange.SAVE_EVERY = 2
    parquet.GROUP_BYTES, parquet._SHARD_BYTES = 1, 2000
    kill_at_call(Archive, "image", images + 1)
    command("export", "--format", form)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = make_split_project(tmp_path_factory.mktemp("project"), 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        yield made


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_until(form: str, images: int) -> int | None:
    process = Fork(export, form, images)
    process.wait()
    return process.returncode


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
