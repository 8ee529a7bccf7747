"""Experiments of a real DVC repository side by side, in any state."""

import pandas as pd
import pytest

from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.experiment import prepare
from abo_vqa.core.tracking.runs import track_trial
from tests.support import experiments


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Ranks 4, 8 (three seeds, one of them twice), 16 (the commit's), and 32 in the queue."""
    root = experiments.make(tmp_path_factory.mktemp("experiments") / "repository")
    for name, *changes in (
        ("rank-4", "lora.r=4"),
        ("rank-8", "lora.r=8"),
        ("rank-8-seed-1", "lora.r=8", "lora.seed=1"),
        ("rank-8-seed-2", "lora.r=8", "lora.seed=2"),
        # All of these are what null stands for: the same settings and seed as rank-8.
        ("rank-8-again", "lora.r=8", "lora.seed=42", "lora.lr=5e-3", "lora.alpha=16.0"),
    ):
        words = [word for change in changes for word in ("--set-param", change)]
        experiments.dvc(root, "exp", "run", "--quiet", "--temp", "--name", name, *words)
    words = ("exp", "run", "--quiet", "--queue", "--name")
    experiments.dvc(root, *words, "waiting", "--set-param", "lora.r=32")
    return root


@pytest.fixture
def workspace(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return repository


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def sweep(out, *words: str) -> pd.DataFrame:
    assert main(["sweep", "--out", str(out), *words]) == 0
    return pd.read_csv(out / "sweep.csv")


def test_seeds_are_one_row_and_ranks_say_what_is_certain(workspace, tmp_path, capsys):
    table = sweep(tmp_path).set_index("lora.r")
    assert table["state"].tolist() == ["finished"] * 3 + ["queued"]
    assert table.index.tolist() == [16, 8, 4, 32]
    assert table.loc[8, "seeds"] == 3  # rank-8 drew with `seed`, which is 42, as rank-8-again did
    assert table.loc[8, "test_sd"] > 0
    assert table.loc[8, "experiments"].split()[:2] == ["rank-8-seed-1", "rank-8-seed-2"]
    assert len(table.loc[8, "experiments"].split()) == 3
    assert table["rank_best"].dropna().tolist() == [1, 2, 3]
    assert table["rank_worst"].dropna().tolist() == [1, 2, 3]
    assert table.loc[16, "validation"] == pytest.approx(0.66)
    assert pd.isna(table.loc[32, "test"])
    said = capsys.readouterr().out
    assert "All ranks can be told apart." in said
    assert "3 of 3 differences exceed the noise of images and seeds" in said
    assert "from 3 runs of settings that have several" in said
    assert "queued: waiting" in said
    assert "Seconds are missing: MLflow has no database yet." in said
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "differences.csv")) == 3
    assert "| rank | r | seeds |" in (tmp_path / "sweep.md").read_text()


def test_without_several_seeds_the_noise_isnt_known(workspace, tmp_path, capsys):
    table = sweep(tmp_path, "--name", "rank-[48]")
    assert table["seeds"].tolist() == [1, 1]
    said = capsys.readouterr().out
    assert "exceed the noise of images (" in said
    assert "the noise of seeds isn't known" in said


def test_the_ceiling_of_the_same_test_rows_is_told(workspace, tmp_path, capsys):
    assert "at most" not in text_beside(workspace, tmp_path, capsys, "0.2")
    text = text_beside(workspace, tmp_path, capsys, str(load_config().split.test_size))
    assert "At most about 91% of all test rows can be right." in text
    assert "At most about 91% of all" in (tmp_path / "sweep.md").read_text()


def text_beside(workspace, out, capsys, answer) -> str:
    """What is printed beside an evaluation of such test rows."""
    experiments.write_ceiling(workspace, answer)
    try:
        sweep(out, "--name", "rank-[48]")
    finally:
        experiments.remove_ceiling(workspace)
    return capsys.readouterr().out


def test_names_that_match_nothing_and_commits_without_experiments(workspace, tmp_path, capsys):
    assert main(["sweep", "--name", "rang-*"]) == 2
    assert "no experiment is called rang-*; there are " in capsys.readouterr().err
    experiments.run(workspace, "git", "commit", "--quiet", "--allow-empty", "-m", "empty")
    try:
        assert main(["sweep"]) == 2
        error = capsys.readouterr().err
        assert "no experiments start from this commit. 5 start from other commits" in error
        assert len(sweep(tmp_path, "--rev", "HEAD~1")) == 4
    finally:
        experiments.run(workspace, "git", "reset", "--quiet", "--hard", "HEAD~1")
    capsys.readouterr()
    assert main(["sweep", "--rev", "nowhere"]) == 2
    assert "Name a commit, branch or tag" in capsys.readouterr().err


def test_a_folder_that_is_no_repository(tmp_path, monkeypatch, capsys):
    for name in ("conf", "params.yaml"):
        (tmp_path / name).symlink_to(experiments.ROOT / name)
    monkeypatch.chdir(tmp_path)
    assert main(["sweep"]) == 2
    assert "experiments need a Git and DVC repository" in capsys.readouterr().err


def test_seconds_come_from_mlflow(workspace, own_store, tmp_path):
    """Of all runs of an experiment; those of another commit's namesake don't count."""
    commit = experiments.run(workspace, "git", "rev-parse", "HEAD").strip()
    experiment, client = prepare("abo-vqa"), connect()
    for key, seconds in ((f"exp:rank-4:{commit}:repro:1:2", 7), (f"exp:rank-4:{commit}", 5),
                         ("exp:rank-4:0123:repro:1:2", 100), (f"repro:{commit}", 100)):  # fmt: skip
        run = client.create_run(experiment, tags={"abo_vqa.invocation": key})
        client.log_metric(run.info.run_id, "seconds", seconds)
    table = sweep(tmp_path).set_index("lora.r")
    assert table.loc[4, "seconds"] == 12
    assert pd.isna(table.loc[16, "seconds"])


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "./mlruns"])
def test_without_mlflow_seconds_are_missing(workspace, tmp_path, monkeypatch, capsys, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert sweep(tmp_path, "--name", "rank-4", "--trials")["seconds"].isna().all()
    said = capsys.readouterr().out
    assert "Seconds are missing: " in said
    assert "Trials are missing: " in said


def test_results_that_arent_the_experiments_own(workspace, tmp_path, capsys):
    """`dvc exp run finetune` leaves the commit's test results, which aren't shown as its own."""
    words = ("exp", "run", "--quiet", "--temp", "--name", "half", "--set-param", "lora.r=2")
    experiments.dvc(workspace, *words, "finetune")
    table = sweep(tmp_path, "--name", "half")
    assert table["validation"].tolist() == pytest.approx([0.52])
    assert table["test"].isna().all()
    captured = capsys.readouterr()
    assert "half ended before its test results" in captured.err
    assert "nothing to compare" in captured.out
    experiments.dvc(workspace, "exp", "remove", "half")


def test_other_test_rows_arent_compared(workspace, tmp_path, capsys):
    words = ("exp", "run", "--quiet", "--temp", "--name", "other", "--set-param")
    experiments.dvc(workspace, *words, "split.test_size=0.3")
    table = sweep(tmp_path).set_index("experiments")
    assert pd.isna(table.loc["other", "rank_best"])
    assert table.loc["other", "low"] < table.loc["other", "test"] < table.loc["other", "high"]
    assert "1 settings were tested on other questions" in capsys.readouterr().out
    experiments.dvc(workspace, "exp", "remove", "other")


def test_trials_of_a_search(workspace, own_store, tmp_path):
    """Validation only; those that were stopped by force have no result."""
    config = load_config()
    for number, rank in enumerate((4, 8)):
        settings = {"lora.r": rank, "lora.lr": 2e-5}
        with track_trial("search", settings, config, number) as tracker:
            if rank == 4:
                tracker.finish(Summary("", metrics={"best_validation_accuracy": 0.9}))
            else:
                tracker.finish(Summary("", params={"pruned": "below the median"}))
    with pytest.raises(KeyboardInterrupt), track_trial("search", {"lora.r": 2}, config, 2):
        raise KeyboardInterrupt
    table = sweep(tmp_path, "--trials").set_index("experiments")
    assert table.loc["trial-0", "validation"] == 0.9
    assert table.loc["trial-0", "lora.lr"] == 2e-5
    assert table.loc["trial-0", "state"] == "finished"
    assert pd.isna(table.loc["trial-0", "test"])
    assert table.loc["trial-1", "state"] == "pruned"
    assert "trial-2" not in table.index
    assert table.loc["main", "lora.lr"] == 0.005


@pytest.mark.slow
def test_a_failed_experiment_is_shown_as_such(workspace, tmp_path, capsys):
    words = ("exp", "run", "--quiet", "--queue", "--name", "thirteen", "--set-param", "lora.r=13")
    experiments.dvc(workspace, *words)
    experiments.dvc(workspace, "exp", "run", "--run-all")
    table = sweep(tmp_path).set_index("lora.r")
    assert table.loc[13, "state"] == "failed"
    assert table.loc[32, "state"] == "finished"
    assert "failed: thirteen" in capsys.readouterr().out
