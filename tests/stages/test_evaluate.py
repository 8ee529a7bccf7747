"""Evaluation on a small made-up run with the sample's own kinds of scorers."""

import json
import math
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abo_vqa.config import ScorerConfig, ScorersConfig, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.evaluation import predictions, slices
from abo_vqa.evaluation.statistics import bootstrap_slices, interval
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
    table.to_csv("data/vqa.csv", index=False)
    table[table["row_id"] < 30].to_csv("data/train.csv", index=False)
    table[table["row_id"] >= 30].to_csv("data/test.csv", index=False)
    for seed, path in enumerate(predictions.prediction_files(config.baselines.models).values()):
        path.parent.mkdir(parents=True)
        answers(table, 0.3 + 0.04 * seed, seed).to_csv(path, index=False)
    monkeypatch.setattr(evaluate, "METRICS", tuple(m for m in evaluate.METRICS if "b" not in m[:1]))
    monkeypatch.setattr(evaluate, "OVER_ALL_ROWS", ("exact_match", "f1"))
    return config


def predict(config, test):
    return answers(test.astype({"row_id": int}), 0.9, 99)


def test_every_model_on_the_same_rows_and_every_value_a_number(run):
    metrics, evaluation = evaluate.evaluate(run, predict)
    assert len(metrics) == 12
    best = max((m for m in metrics if m.startswith("blind-")),
               key=lambda m: metrics[m]["accuracy"])  # fmt: skip
    assert evaluation["best_blind"] == best
    for model, values in metrics.items():
        assert all(isinstance(v, int | float) and math.isfinite(v) for v in values.values())
        assert values["n"] == 30
        gain = values["accuracy"] - metrics[best]["accuracy"]
        assert values["gain_over_blind"] == pytest.approx(gain)
        low, high = evaluation["intervals"][model]["accuracy"]
        assert low <= values["accuracy"] <= high
        scores = pd.read_parquet(f"reports/scores/{model}.parquet")
        assert scores["row_id"].tolist() == list(range(30, 60))
        assert scores["accuracy"].mean() == values["accuracy"]
    assert len(evaluation["pairs"]) == 66
    json.dumps(evaluation, allow_nan=False)


def test_twice_gives_the_same_bytes(run):
    def everything():
        found = evaluate.evaluate(run, predict)
        files = sorted(Path("reports").rglob("*.*"))
        return json.dumps(found), [(str(f), f.read_bytes()) for f in files]

    assert everything() == everything()


def test_a_failed_row_is_wrong_and_in_no_mean(run):
    path = Path("reports/baselines/blip/predictions.csv")
    table = pd.read_csv(path, keep_default_na=False)
    table.loc[table["row_id"] == 31, ["prediction", "error"]] = ["", "out of memory"]
    table[table["row_id"] != 32].to_csv(path, index=False)
    metrics, _ = evaluate.evaluate(run, predict)
    scores = pd.read_parquet("reports/scores/blip.parquet").set_index("row_id")
    assert scores.loc[[31, 32], "accuracy"].tolist() == [0, 0]
    assert scores.loc[[31, 32], ["exact_match", "f1", "wup"]].isna().all(axis=None)
    assert "not predicted" in scores.loc[32, "error"]
    assert metrics["blip"]["coverage"] == pytest.approx(28 / 30)
    assert metrics["blip"]["f1"] == pytest.approx(scores["f1"].dropna().mean())
    assert metrics["blip"]["accuracy"] < metrics["blip"]["exact_match"]


def test_a_model_that_always_fails_has_an_accuracy_of_0_and_no_nan(run):
    path = Path("reports/baselines/vilt/predictions.csv")
    table = pd.read_csv(path).assign(prediction="", error="no memory")
    table.to_csv(path, index=False)
    metrics, evaluation = evaluate.evaluate(run, predict)
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
        evaluate.evaluate(run, predict)


def test_without_a_blind_baseline_there_is_nothing_to_gain_over(run):
    models = run.baselines.model_copy(update={"models": ("blip",)})
    with pytest.raises(UserError, match=r"baselines\.models"):
        evaluate.evaluate(run.model_copy(update={"baselines": models}), predict)


def test_risk_does_not_depend_on_the_order_of_equally_sure_rows():
    sure, right = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0.0])
    coverage, risk = slices.risk_coverage(sure, right)
    assert coverage == pytest.approx([0.25, 0.75, 1])
    assert risk == pytest.approx([0, 1 / 3, 1 / 2])
    assert slices.risk_coverage(sure[::-1], right[::-1])[1] == pytest.approx(risk)


def test_yes_no_counting_and_fractions_by_hand():
    table = pd.DataFrame(
        {"question_type": ["yes/no", "yes/no", "counting", "counting"],
         "answer": ["Yes", "no", "two", "3"], "prediction": ["yes", "Yes", "4", "three"],
         "error": "", "accuracy": [1.0, 0, 0, 1]}
    )  # fmt: skip
    found = slices.yes_no(table)
    assert (found["yes_recall"], found["no_recall"], found["yes_share"]) == (1, 0, 1)
    counted = slices.counting(table)
    assert (counted["exact"], counted["mean_absolute_error"]) == (0.5, 1)
    half = slices.fractions(table, 4, ())[-2]
    assert (half["fraction"], half["n"]) == (0.5, 2)
    assert (half["accuracy"], half["accuracy_lower_case_only"]) == (0.5, 0.5)


def test_scorers_can_be_missing_only_with_a_clear_message(run, monkeypatch):
    monkeypatch.setattr(evaluate, "METRICS", ("exact_match", "bartscore"))
    nowhere = ScorerConfig(path="models/nowhere")
    config = run.model_copy(update={"scorers": ScorersConfig(bertscore=nowhere, bartscore=nowhere)})
    with pytest.raises(UserError, match="models/nowhere"):
        evaluate.evaluate(config, predict)


def test_hundreds_of_product_types_take_the_memory_of_a_few() -> None:
    rng = np.random.default_rng(0)
    n, types = 2000, 400
    rows = pd.DataFrame({"product_type": [f"type{i % types}" for i in range(n)]})
    scored = {m: rows.assign(accuracy=rng.integers(0, 2, n).astype(float)) for m in "abcd"}
    clusters = np.arange(n) // 2
    config = load_config(ROOT / "params.yaml")
    few = config.evaluate.model_copy(update={"resamples": 1000})
    config = config.model_copy(update={"evaluate": few})
    tracemalloc.start()
    cut = slices.slices(scored, clusters, config, ["product_type"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = n * types * len(scored) * 8  # a number for each row, type and model: 26 MB
    assert peak < 3 * whole
    right = np.column_stack([table["accuracy"] for table in scored.values()])
    inside = np.column_stack(list(slices.parts(rows, ["product_type"]).values()))
    means = bootstrap_slices(right, inside, clusters, few.resamples, config.seed)
    at_once = interval(means, few.confidence).reshape(types, len(scored), 2)
    for m, model in enumerate(scored):
        for k, row in enumerate(cut[model]["product_type"]):
            if row["accuracy"] not in (0, 1):
                assert [row["low"], row["high"]] == at_once[k, m].tolist()
