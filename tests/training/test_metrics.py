"""Training's curves in a real tracking store: few points, means, the last step among them."""

import shutil

import pytest
import torch

from abo_vqa.core.json_files import read_json
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.runs import track
from abo_vqa.stages import finetune
from abo_vqa.training.metrics import MetricLogger
from tests.support import training as project
from tests.support.stages import run_stage

CPU = torch.device("cpu")
NAMES = {"loss", "lr", "gradient_norm", "samples_per_second", "memory_bytes"}


@pytest.fixture
def history(workspace, tables, monkeypatch):
    """What a run's curve became in MLflow's database: [(step, value)]."""
    shutil.copy(tables, workspace / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(workspace))

    def read(name: str) -> list[tuple[int, float]]:
        client = connect()
        experiments = [e.experiment_id for e in client.search_experiments()]
        runs = client.search_runs(experiments, "tags.mlflow.runName = 'finetune'")
        points = client.get_metric_history(runs[0].info.run_id, name)
        return [(point.step, point.value) for point in points]

    return read


def test_a_full_training_keeps_a_thousand_points(workspace, history):
    """13,640 steps, three epochs of them, as of the study's rows."""
    steps = 13_640
    with track("finetune", project.load_config()) as tracker:
        metrics = MetricLogger(tracker.log, steps, None, CPU)
        for step in range(1, steps + 1):
            values = {"loss": float(step), "lr": 1e-3, "gradient_norm": 1.0}
            metrics.update(step, values, rows=8, seconds=2.0)
        metrics.flush(steps)
    for name in NAMES:
        assert len(history(name)) <= 1000
    losses = history("loss")
    assert losses[0] == (14, 7.5)  # the mean of 1 to 14
    assert losses[-1][0] == steps
    every = [step for step, _ in losses[:-1]]
    assert every == list(range(14, steps, 14))
    assert history("samples_per_second")[3][1] == 4.0


def test_neither_epochs_nor_odd_lengths_break_the_limit(workspace, history):
    """20 epochs of 100 steps and one: the end of each has a point, and an accuracy, of its own."""
    epochs, length = 20, 101
    with track("finetune", project.load_config()) as tracker:
        metrics = MetricLogger(tracker.log, epochs * length, None, CPU, epochs)
        for step in range(1, epochs * length + 1):
            metrics.update(step, {"loss": float(step)}, rows=8, seconds=2.0)
            if step % length == 0:
                metrics.flush(step)
                tracker.log({"validation_accuracy": 0.5, "validation_loss": 1.0}, step)
    losses = [step for step, _ in history("loss")]
    ends = list(range(length, epochs * length + 1, length))
    assert len(losses) <= 1000
    assert set(ends) <= set(losses)
    assert [step for step, _ in history("validation_accuracy")] == ends
    assert [step for step, _ in history("validation_loss")] == ends


def test_a_short_training_keeps_every_step(workspace, history):
    config = project.set_lora({})
    with track("finetune", config) as tracker:
        run_stage(finetune, config, tracker.log)
    steps = read_json("reports/training.json")["steps"]
    losses = history("loss")
    assert [step for step, _ in losses] == [step["step"] for step in steps]
    assert losses[0][1] == pytest.approx(steps[0]["loss"], abs=1e-3)


def test_the_setting(workspace):
    config = project.set_lora({"epochs": 2})
    config = config.model_copy(
        update={"tracking": config.tracking.model_copy(update={"log_every": 3})}
    )
    logged: list[tuple[int, float]] = []
    run_stage(
        finetune, config, lambda m, step: logged.append((step, m["loss"])) if "loss" in m else None
    )
    report = read_json("reports/training.json")
    losses = [step["loss"] for step in report["steps"]]
    assert len(losses) == report["steps"][-1]["step"] > len(logged)  # the file keeps every step
    epoch = len(losses) // 2
    points = sorted({*range(3, len(losses) + 1, 3), epoch, 2 * epoch})
    assert [step for step, _ in logged] == points
    start = 0
    for step, value in logged:
        assert value == pytest.approx(sum(losses[start:step]) / (step - start), abs=1e-3)
        start = step
