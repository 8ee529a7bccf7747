"""`.ci/changes` with programs in place of DVC and ours: the comment it makes of what they print."""

import shutil
import subprocess

import pytest
from helpers.scratch import commit, run

from tests.support import ROOT

ROWS = 5000  # more than a pipe holds


@pytest.fixture
def checkout(tmp_path):
    """Two commits, and programs that print as much as they are asked to."""
    folder = tmp_path / "checkout"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/changes", folder / ".ci")
    (folder / ".gitignore").write_text(".venv\nchanges\n")
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    for key, value in (("user.name", "scratch"), ("user.email", "scratch@example.org")):
        run(folder, "git", "config", key, value)
    commit(folder)
    commit(folder)
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    for name, body in (
        ("dvc", f'[ "$1" != metrics ] || seq -f "| row %.0f |" {ROWS}'),
        ("abo-vqa", 'echo "title"'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    return folder


def test_a_long_table_is_cut_in_the_comment_and_whole_beside_it(checkout):
    done = subprocess.run(
        ["bash", ".ci/changes", "HEAD^1", "changes"], cwd=checkout,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    page = (checkout / "changes/comment.md").read_text()
    assert page.startswith("## Results against ")
    assert "| row 100 |\n\n… and more: metrics.md of the artifact." in page
    assert page.count("| row ") == 100
    assert page.count("<details>") == page.count("</details>") == 2
    assert (checkout / "changes/metrics.md").read_text().count("| row ") == ROWS
