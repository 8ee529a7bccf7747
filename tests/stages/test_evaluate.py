"""Evaluation on a small made-up run with the sample's own kinds of scorers."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abo_vqa.core.config import ScorerConfig, ScorersConfig, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.paths import predictions_of
from abo_vqa.evaluation import scoring
from abo_vqa.evaluation.predictions import answering_models
from abo_vqa.stages import evaluate
from tests.support import ROOT

IMAGES, EACH = 20, 3
ASKED = [("What color is it?", ("red", "gray")), ("How many are there?", ("two", "3")),
         ("Is it red?", ("yes", "no"))]  # fmt: skip
WRONG = {"red": "gray", "gray": "red", "two": "three", "3": "two", "yes": "no", "no": "yes"}


def vqa():
    rows = [(f"00/{i:08x}.jpg", question, answers[(i // 2 + j) % 2], "lamp")
            for i in range(IMAGES) for j, (question, answers) in enumerate(ASKED)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["image_path", "question", "answer", "product_type"])
    return table.assign(row_id=range(len(table)))


def answers(table, right, seed):
    """Right with some probability; in a sampling order of its own."""
    rng = np.random.default_rng(seed)
    said = [a if rng.random() < right else WRONG[a] for a in table["answer"]]
    made = pd.DataFrame({"row_id": table["row_id"], "prediction": said, "confidence": "0.5",
                         "error": ""})  # fmt: skip
    return made.sample(frac=1, random_state=42)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A workspace with predictions of every model, and the configuration."""
    for name in ("params.yaml", "conf"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    table = vqa()
    config = load_config(tmp_path / "params.yaml")
    config = config.model_copy(
        update={"evaluate": config.evaluate.model_copy(
            update={"resamples": 200, "aliases": tmp_path / config.evaluate.aliases})}
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/generate.json").write_text("{}")
    Path("data/verification.json").write_text("{}")
    table.to_csv("data/vqa.csv", index=False)
    table[table["row_id"] < 30].to_csv("data/train.csv", index=False)
    table[table["row_id"] >= 30].to_csv("data/test.csv", index=False)
    *baselines, finetuned, ranked = answering_models(config.baselines.models, ranked=True)
    assert (finetuned, ranked) == ("finetuned", "finetuned-ranked")
    for seed, model in enumerate(baselines):
        path = predictions_of(model)
        path.parent.mkdir(parents=True)
        answers(table, 0.3 + 0.04 * seed, seed).to_csv(path, index=False)
    Path("reports/finetuned").mkdir()
    finetuned = answers(table[table["row_id"] >= 30], 0.9, 99)
    finetuned.to_csv("reports/finetuned/predictions.csv", index=False)
    ranked = answers(table[table["row_id"] >= 30], 0.9, 98)
    ranked.to_csv("reports/finetuned/ranked.csv", index=False)
    training = {"held_out_rows": 10, "epochs": [{"epoch": 1, "validation_accuracy": 0.8}]}
    Path("reports/training.json").write_text(json.dumps(training))
    names = tuple(name for name in scoring.METRIC_NAMES if not name.startswith("b"))
    monkeypatch.setattr(scoring, "METRIC_NAMES", names)
    monkeypatch.setattr(scoring, "ALL_ROWS_METRICS", ("exact_match", "f1"))
    return config


def evaluated(config):
    """Run the stage; return what it wrote: metrics, evaluation."""
    evaluate.run(config)
    return [json.loads(Path(f"reports/{n}.json").read_text()) for n in ("metrics", "evaluation")]


def test_every_model_on_the_same_rows_and_every_value_a_number(run):
    metrics, evaluation = evaluated(run)
    assert len(metrics) == 13
    best = max((m for m in metrics if m.startswith("blind-")),
               key=lambda m: metrics[m]["accuracy"])  # fmt: skip
    assert evaluation["best_blind"] == best
    assert evaluation["learning_curve"] == [[0.490162, 0.943318]]  # Wilson's, 8 of 10
    for model, values in metrics.items():
        assert all(isinstance(v, int | float) and math.isfinite(v) for v in values.values())
        assert values["n"] == 30
        gain = values["accuracy"] - metrics[best]["accuracy"]
        assert values["gain_over_blind"] == pytest.approx(gain, abs=2e-6)
        low, high = evaluation["intervals"][model]["accuracy"]
        assert low <= values["accuracy"] <= high
        scores = pd.read_parquet(f"reports/scores/{model}.parquet")
        assert scores["row_id"].tolist() == list(range(30, 60))
        assert round(scores["accuracy"].mean(), 6) == values["accuracy"]
    assert len(evaluation["pairs"]) == 78
    json.dumps(evaluation, allow_nan=False)


def test_what_ranking_can_answer_is_on_record(run):
    _, evaluation = evaluated(run)
    expected = {"candidates": 6, "shortlist": "first_token", "k": 6, "covered": 1.0}
    assert evaluation["closed_world"] == expected
    results = json.loads(Path("reports/metrics.json").read_text())
    assert list(results)[-2:] == ["finetuned", "finetuned-ranked"]


def test_without_ranking_its_answers_arent_looked_for(run):
    Path("reports/finetuned/ranked.csv").unlink()
    with pytest.raises(UserError, match=r"ranked\.csv"):
        evaluated(run)
    off = run.ranking.model_copy(update={"finetuned": False})
    metrics, evaluation = evaluated(run.model_copy(update={"ranking": off}))
    assert "finetuned" in metrics
    assert "finetuned-ranked" not in metrics
    assert "closed_world" not in evaluation


def test_twice_gives_the_same_bytes(run):
    def everything():
        evaluate.run(run)
        files = sorted(Path("reports").rglob("*.*"))
        assert {"metrics.json", "evaluation.json", "vilt.parquet"} <= {f.name for f in files}
        return [(str(f), f.read_bytes()) for f in files]

    assert everything() == everything()


def test_a_failed_row_is_wrong_and_in_no_mean(run):
    path = Path("reports/baselines/blip/predictions.csv")
    table = pd.read_csv(path, keep_default_na=False)
    table.loc[table["row_id"] == 31, ["prediction", "error"]] = ["", "out of memory"]
    table[table["row_id"] != 32].to_csv(path, index=False)
    metrics, _ = evaluated(run)
    scores = pd.read_parquet("reports/scores/blip.parquet").set_index("row_id")
    assert scores.loc[[31, 32], "accuracy"].tolist() == [0, 0]
    assert scores.loc[[31, 32], ["exact_match", "f1", "wup"]].isna().all(axis=None)
    assert "not predicted" in scores.loc[32, "error"]
    assert metrics["blip"]["coverage"] == pytest.approx(28 / 30, abs=1e-6)
    assert metrics["blip"]["f1"] == pytest.approx(scores["f1"].dropna().mean(), abs=1e-6)
    assert metrics["blip"]["accuracy"] < metrics["blip"]["exact_match"]


def test_a_model_that_always_fails_has_an_accuracy_of_0_and_no_nan(run):
    path = Path("reports/baselines/vilt/predictions.csv")
    table = pd.read_csv(path).assign(prediction="", error="no memory")
    table.to_csv(path, index=False)
    metrics, evaluation = evaluated(run)
    assert metrics["vilt"]["accuracy"] == metrics["vilt"]["coverage"] == 0
    assert "f1" not in metrics["vilt"]
    json.dumps([metrics, evaluation], allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda t: pd.concat([t, t.head(1)]), "twice"),
     (lambda t: t.assign(row_id=t["row_id"] + 1), "has rows 0 to 59"),
     (lambda t: t.assign(confidence="high"), "are numbers"),
     (lambda t: t.drop(columns="error"), "lacks the column"),
     (lambda t: t[t["row_id"] < 30], "no prediction for any test row")],
)  # fmt: skip
def test_broken_predictions_are_one_clear_message(run, change, message):
    path = Path("reports/baselines/llava/predictions.csv")
    change(pd.read_csv(path, keep_default_na=False)).to_csv(path, index=False)
    with pytest.raises(UserError, match=message):
        evaluated(run)


def test_without_a_blind_baseline_there_is_nothing_to_gain_over(run):
    models = run.baselines.model_copy(update={"models": ("blip",)})
    with pytest.raises(UserError, match=r"baselines\.models"):
        evaluate.run(run.model_copy(update={"baselines": models}))


def test_no_number_has_more_than_six_decimals(run):
    def numbers(value):
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from numbers(item)
        elif isinstance(value, float):
            yield value

    every = list(numbers(evaluated(run)))
    assert len(every) > 1000
    assert all(value == round(value, 6) for value in every)


def test_scorers_can_be_missing_only_with_a_clear_message(run, monkeypatch):
    monkeypatch.setattr(scoring, "METRIC_NAMES", ("exact_match", "bartscore"))
    nowhere = ScorerConfig(path="models/nowhere")
    config = run.model_copy(update={"scorers": ScorersConfig(bertscore=nowhere, bartscore=nowhere)})
    with pytest.raises(UserError, match="models/nowhere"):
        evaluate.run(config)
