"""Which experiments are one row, and in which order the rows come."""

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.experiments.collect import Experiment
from abo_vqa.evaluation.sweep import SweepRun, compare_experiments, seed_noise
from abo_vqa.reporting.sweep_report import sweep_findings, sweep_frame, sweep_text

EASY = np.random.default_rng(0).random(400)


def run(name, share=0.5, seed=1, state="success", code="", answer="red", **settings) -> SweepRun:
    luck = np.random.default_rng([seed, len(name)]).random(400)
    scores = pd.DataFrame(
        {
            "row_id": range(400),
            "image_path": [f"{i // 2}.jpg" for i in range(400)],
            "question": "what?",
            "answer": answer,
            "accuracy": (EASY + 0.1 * luck < share).astype(float),
        }
    )
    named = {key if "." in key else f"lora.{key}": value for key, value in settings.items()}
    values = {"lora.seed": seed, **named}
    experiment = Experiment(name, f"rev-{name}", "commit", state, values)
    if not experiment.finished:
        return SweepRun(experiment, code, seed)
    return SweepRun(experiment, code, seed, share, float(scores["accuracy"].mean()), scores, 60.0)


def rows(*runs: SweepRun) -> list[list[str]]:
    sweep = compare_experiments(runs, 0.95)
    return [[run.experiment.name for run in row.runs] for row in sweep.rows]


def test_only_results_that_settings_make_tell_rows_apart():
    same = [
        run("a", r=8),
        run("b", r=8.0, seed=2, keep_checkpoints=5),
        run("c", r=8, seed=3, gradient_checkpointing=True),
        run("d", r=8, seed=4, **{"compute.engine": "ray", "compute.workers": 2}),
    ]
    assert rows(*same) == [["a", "b", "c", "d"]]
    assert len(rows(run("a", r=8), run("b", r=4, seed=2))) == 2
    assert len(rows(run("a", code="old"), run("b", code="new", seed=2))) == 2


def test_of_the_profiles_models_only_the_base_tells_rows_apart():
    """Another baseline, or another model's prompt, makes no other row; another base does."""
    same = {"lora.model": "blip", "models.blip.prompt": "{question}"}
    other = {"baselines.models": ["blip"], "models.x.prompt": "{question}?"}
    x = {"lora.model": "x", "models.x.path": "y"}
    runs = [
        run("a", seed=1, **same),
        run("b", seed=2, **same, **other),
        run("c", **x, **{"models.x.prompt": "{question}?"}),
        run("d", **x, **{"models.x.prompt": "{question}!"}),
    ]
    sweep = compare_experiments(runs, 0.95)
    assert set(sweep.changed) == {"lora.model", "base.prompt"}
    assert sorted(len(row.runs) for row in sweep.rows) == [1, 1, 2]
    assert "nan" not in sweep_text(sweep, 0.95).lower()


def test_a_seed_counts_once():
    """Twice the same training would make seeds look alike."""
    assert rows(run("first"), run("again"), run("other", seed=2)) == [["first", "other"]]


def test_rows_of_the_same_settings_have_different_names():
    sweep = compare_experiments([run("a", code="old"), run("b", code="new")], 0.95)
    assert len({row.name for row in sweep.rows}) == 2
    assert sum(len(comparison.scores) for comparison in sweep.comparisons) == 2


def test_order_is_test_accuracy_then_what_isnt_finished():
    order = rows(
        run("failed", state="failed", r=1),
        run("low", 0.3, r=2),
        run("queued", state="queued", r=3),
        run("high", 0.8, r=4),
        run("running", state="running", r=5),
        run("other rows", 0.9, answer="blue", r=6),
    )
    assert order == [["high"], ["low"], ["other rows"], ["running"], ["queued"], ["failed"]]


def test_the_noise_of_seeds_is_that_of_settings_with_several():
    one = compare_experiments([run("a", r=1), run("b", r=2)], 0.95)
    assert seed_noise(one) is None
    assert "the noise of seeds isn't known" in sweep_text(one, 0.95)
    runs = [run("a", 0.5, r=1), run("b", 0.52, seed=2, r=1), run("c", 0.5, r=2)]
    sweep = compare_experiments(runs, 0.95)
    noise = seed_noise(sweep)
    assert noise is not None
    accuracies = [r.test for r in runs[:2]]
    assert noise == (pytest.approx(np.std(accuracies, ddof=1)), 2, 1)
    assert any("Two runs are few" in line for line in sweep_findings(sweep, 0.95))


def test_tables_have_every_number():
    sweep = compare_experiments([run("a", 0.3, r=1), run("b", 0.8, r=2)], 0.95)
    frame = sweep_frame(sweep).set_index("experiments")
    assert frame.loc["b", ["rank_best", "rank_worst", "lora.r", "seeds"]].tolist() == [1, 1, 2, 1]
    assert frame.loc["a", "seconds"] == 60
    assert (frame["low"] < frame["test"]).all()
    assert (frame["test"] < frame["high"]).all()
    assert frame[["test_sd", "validation_sd"]].isna().all(axis=None)
    assert sweep_findings(compare_experiments([], 0.95), 0.95) == [
        "No finished experiment has test scores: nothing to compare."
    ]
