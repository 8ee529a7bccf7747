"""`abo-vqa changes` between commits, experiments and the workspace of a real DVC repository."""

import re
import shutil

import pandas as pd
import pytest
from dvc.repo import Repo

from abo_vqa.cli import main
from tests.support import experiments


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The commit has rank 16, the experiment 4."""
    root = experiments.make(tmp_path_factory.mktemp("changes") / "repository")
    words = ("exp", "run", "--quiet", "--temp", "--name", "rank-4", "--set-param", "lora.r=4")
    experiments.dvc(root, *words)
    return root


@pytest.fixture
def workspace(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return repository


def test_an_experiment_against_the_commit(workspace, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(workspace / "conf")  # from a subfolder as well
    assert main(["changes", "main", "rank-4", "--rows", "4", "--csv", str(tmp_path / "c.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("main (")
    assert lines[1] == "  lora.r: 16 → 4"
    row = next(line.split() for line in lines if line.startswith("finetuned "))
    wrong, right, reworded = map(int, row[-3:])
    assert wrong > 50
    assert reworded == 0
    assert "finetuned is worse." in lines
    changed = pd.read_csv(tmp_path / "c.csv", dtype=str, keep_default_na=False)
    assert changed["change"].value_counts().to_dict() == {
        name: n for name, n in {"now wrong": wrong, "now right": right}.items() if n
    }
    title = lines.index(f"finetuned: {wrong + right} of 300 answers changed, 4 of them here")
    assert len(lines) == title + 2 + 4
    before = changed["prediction_base"].where(changed["change"] == "now wrong")
    assert set(before.dropna()) == {"0.2"}


def test_markdown_is_what_a_comment_can_hold(workspace, capsys):
    assert main(["changes", "main", "rank-4", "--markdown"]) == 0
    page = capsys.readouterr().out
    assert "| `lora.r` | `16` | `4` |" in page
    assert "| now wrong | `what?` | `0.2` | `0.2` | `none` | `" in page
    assert page.count("<details>") == page.count("</details>") == 1
    assert "xychart-beta" in page
    assert page.count("```") == 2


def test_the_workspace_without_changes(workspace, capsys):
    assert main(["changes", "HEAD"]) == 0
    out = capsys.readouterr().out
    assert "HEAD (" in out.splitlines()[0]
    assert "→ workspace" in out.splitlines()[0]
    assert "Same answers: finetuned." in out
    assert "before" not in out  # no table


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (True, r"No storage files available: 'reports/scores/finetuned\.parquet'"),
        (False, r"No such file or directory: '.*\.dvc/cache/.*\.dir'"),
    ],
    ids=["listed", "never listed"],
)
def test_without_answers_only_metrics_are_compared_and_the_page_says_so(
    workspace, capsys, listed, reason
):
    """Whether or not DVC still knows from earlier which files the outputs' folders had."""
    with Repo() as repo:
        repo.drop_data_index()
    if listed:
        assert main(["changes", "rank-4"]) == 0
        capsys.readouterr()
    cache, away = workspace / ".dvc/cache", workspace / ".dvc/away"
    cache.rename(away)
    try:
        assert main(["changes", "rank-4"]) == 0
        out = capsys.readouterr().out
        assert main(["changes", "rank-4", "--csv", "x.csv"]) == 2
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        away.rename(cache)
    assert "Only metrics are compared: the answers of rank-4" in out
    assert re.search(reason, out)
    assert "`dvc repro` on rank-4" in out
    assert any(line.startswith("finetuned") for line in out.splitlines())
    assert "--csv: the answers of rank-4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere"], "unknown Git revision 'nowhere'. Name a commit, branch, tag or experiment"),
        (["main", "--model", "blip"], "no model blip in reports/metrics.json; there are finetuned"),
        (["main", "--rows", "-1"], "--rows: found -1; a whole number, at least 0."),
    ],
)
def test_mistakes(workspace, capsys, words, reason):
    assert main(["changes", *words]) == 2
    assert reason in capsys.readouterr().err


def test_a_commit_without_results(workspace, capsys):
    experiments.run(workspace, "git", "rm", "--quiet", "--cached", "reports/metrics.json")
    experiments.run(workspace, "git", "commit", "--quiet", "-m", "none")
    try:
        assert main(["changes", "HEAD"]) == 2
    finally:
        experiments.run(workspace, "git", "reset", "--quiet", "--mixed", "HEAD~1")
    assert "has no results: reports/metrics.json of " in capsys.readouterr().err


def test_text_from_the_data_stays_text():
    """A comment must not mention people, close the table or add tags."""
    from abo_vqa.reporting.changes_report import _code

    assert _code("@everyone `x` <b>\n|") == "`@everyone 'x' <b> |`"
    assert _code("") == "(empty)"
