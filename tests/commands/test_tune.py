"""The search: trials as MLflow runs, resumed, pruned, and reproducible by the printed line."""

import re

import pandas as pd
import pytest

from abo_vqa.cli import main
from abo_vqa.core.errors import TerminatedError, UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.stages import finetune
from abo_vqa.training import run, search
from tests.support import training as project
from tests.support.stages import run_stage


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def workspace(template, tmp_path, monkeypatch):
    monkeypatch.chdir(project.copy(template, tmp_path / "workspace"))
    project.set_lora({"checkpoint_minutes": 60.0})
    return tmp_path / "workspace"


def study_of(folder):
    import optuna

    (file,) = folder.glob(".cache/abo-vqa/tune/*/study.db")
    storage = f"sqlite:///{file}"
    return optuna.load_study(study_name=file.parent.name, storage=storage)


def test_search_goes_on_and_its_line_reproduces_the_best(workspace, capsys):
    import mlflow

    assert main(["tune", "--trials", "2"]) == 0
    assert main(["tune", "--trials", "3"]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1].strip()
    study = study_of(workspace)
    assert len(study.trials) == 3
    assert len({trial.params["lr"] for trial in study.trials}) == 3
    runs = mlflow.search_runs(search_all_experiments=True)
    trials = runs[runs["tags.mlflow.runName"].isin(["trial 0", "trial 1", "trial 2"])]
    assert len(trials) == 3
    assert trials["tags.mlflow.parentRunId"].nunique() == 1
    assert not trials["metrics.validation_accuracy"].isna().any()

    settings = dict(re.findall(r"-S lora\.(\w+)=(\S+)", line))
    assert set(settings) == {"r", "alpha", "lr", "dropout"}
    values = {name: float(v) if "." in v or "e" in v else int(v) for name, v in settings.items()}
    run_stage(finetune, project.set_lora(values))
    report = read_json("reports/training.json")
    assert report["best_validation_accuracy"] == study.best_value


def test_a_reclaimed_trial_is_taken_up_again(workspace, monkeypatch):
    """SIGTERM ends the search with its own exit code; the same settings come first next time."""
    real, settings = run.train, []

    def train(config, folder, track):
        settings.append(config.lora)
        if len(settings) == 1:
            raise TerminatedError("stopped")
        return real(config, folder, track)

    monkeypatch.setattr(run, "train", train)
    assert main(["tune", "--trials", "1"]) == 143
    assert main(["tune", "--trials", "1"]) == 0
    assert settings[0] == settings[1]
    assert len(settings) == 2


def test_a_killed_trial_is_taken_up_again(workspace):
    config = project.load_config()
    study = search.open_study(config, "name", workspace)
    killed = study.ask()
    search.suggest_settings(killed, config)
    again = search.open_study(config, "name", workspace).ask()
    assert search.suggest_settings(again, config) == {**search.suggest_settings(killed, config)}


def test_losses_that_arent_numbers_dont_end_a_search(workspace, monkeypatch):
    from abo_vqa.training.step import NonFiniteLossError

    files, summaries = [], []
    finish = search.Tracker.finish

    def train(config, folder, track):
        files.append(folder / "not-a-number-3.json")
        raise NonFiniteLossError(3, files[-1])

    def recorded(tracker, summary):
        summaries.append(summary)
        finish(tracker, summary)

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(search.Tracker, "finish", recorded)
    with pytest.raises(UserError, match="none of the 2 trials finished"):
        search.search_hyperparameters(project.load_config(), 2)
    # What they leave names no file: it goes with the checkpoints.
    reason = "the loss or its gradient at step 3 isn't finite"
    assert [summary.params for summary in summaries] == [{"pruned": reason}] * 2
    assert not any(file.parent.exists() for file in files)


def test_a_bad_epoch_is_pruned(workspace, monkeypatch):
    """After four finished trials, one below their median stops at its second report."""
    import optuna

    from abo_vqa.training.history import History

    accuracies = iter([0.9, 0.8, 0.9, 0.8, 0.1])
    reached = []

    def train(config, folder, track):
        accuracy = next(accuracies)
        for step in (1, 2, 3):
            track({"validation_accuracy": accuracy}, step)
        reached.append(accuracy)
        history = History(best_accuracy=accuracy, best_epoch=1)
        return run.TrainingResult({}, [], history, {}, True, pd.DataFrame())

    monkeypatch.setattr(run, "train", train)
    accuracy, _, pruned = search.search_hyperparameters(project.load_config(), 5)
    assert (accuracy, pruned) == (0.9, 1)
    assert reached == [0.9, 0.8, 0.9, 0.8]
    states = [trial.state for trial in study_of(workspace).trials]
    assert states[-1] == optuna.trial.TrialState.PRUNED


def test_no_trials(workspace, capsys):
    assert main(["tune", "--trials", "0"]) == 2
    assert "--trials: found 0" in capsys.readouterr().err
