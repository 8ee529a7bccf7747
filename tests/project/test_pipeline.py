"""End to end: real `dvc repro` and `dvc exp run` in a real temporary clone."""

import compileall
import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from helpers.scratch import run

from abo_vqa.core.tracking.lookup import input_digests, output_digests
from tests.support import notebooks
from tests.support.pipelines import tracked
from tests.support.serving import ServerProcess

# The clone's fixture runs every stage: five minutes, and more on a machine that does much else.
pytestmark = pytest.mark.timeout(1800)

MODELS = {
    "blip", "blip2", "clip-fixed", "clip-train", "clip-all", "llava", "vilt", "finetuned",
    "finetuned-ranked", "blind-majority", "blind-type", "blind-question", "blind-ngram",
}  # fmt: skip
METRICS = {
    "accuracy", "gain_over_blind", "exact_match", "token_match", "f1", "word_overlap_f1", "meteor",
    "wup", "rouge1", "rougeL", "bleu", "bertscore_precision", "bertscore_recall", "bertscore_f1",
    "bartscore", "n",
}  # fmt: skip


def test_every_model_has_every_metric_on_the_same_rows(clone):
    metrics = json.loads((clone / "reports" / "metrics.json").read_text())
    assert set(metrics) == MODELS
    for model, values in metrics.items():
        assert set(values) >= METRICS, model
        assert all(isinstance(v, int | float) and math.isfinite(v) for v in values.values()), model
    rows = len((clone / "data" / "test.csv").read_text().splitlines()) - 1
    assert {values["n"] for values in metrics.values()} == {rows}


def test_fine_tuning_beats_zero_shot_and_blind_by_15_points(clone):
    metrics = json.loads((clone / "reports" / "metrics.json").read_text())
    accuracy = {model: values["accuracy"] for model, values in metrics.items()}
    blind = max(value for model, value in accuracy.items() if model.startswith("blind-"))
    assert accuracy["finetuned"] >= accuracy["blip"] + 0.15
    assert accuracy["finetuned"] >= blind + 0.15


def test_fine_tuning_beats_blind_within_three_kinds_of_question(clone):
    import pandas as pd

    kinds = {}
    for model in ("finetuned", *sorted(m for m in MODELS if m.startswith("blind-"))):
        scores = pd.read_parquet(clone / "reports" / "scores" / f"{model}.parquet")
        kinds[model] = scores.groupby("question_subtype")["accuracy"].mean()
    table = pd.DataFrame(kinds)
    better = table.index[table["finetuned"] > table.drop(columns="finetuned").max(axis=1)]
    named = {"color", "type", "object", "counting", "yes/no", "material", "pattern"}
    assert len(named & set(better)) >= 3, table


def test_report_is_there_and_self_contained(clone):
    for name in ("report.html", "browser.html"):
        page = (clone / "reports" / name).read_text()
        assert "<title>" in page
        for remote in ('src="http', "src='http", 'rel="stylesheet" href="http', "@import"):
            assert remote not in page, name
        assert str(clone) not in page
    assert "BLIP fine-tuned" in (clone / "reports" / "report.md").read_text()


def test_runs_carry_the_hashes_of_dvc_lock(clone):
    _, runs = tracked(clone)
    stages = {r.data.tags["dvc.stage"]: r for r in runs if "dvc.stage" in r.data.tags}
    lock = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    said = (clone.parent / "repro.txt").read_text().splitlines()
    executed = {line.split("'")[1] for line in said if "Running stage '" in line}
    # Where two lists of candidates give the same answers, DVC finds the second's output cached.
    assert {"baseline@clip-all"} >= set(lock) - executed
    assert set(stages) == executed
    for name in executed:
        for key, digests in (("deps", input_digests), ("outs", output_digests)):
            recorded = {item["path"]: item["md5"] for item in lock[name].get(key, [])}
            assert digests(stages[name]) == recorded
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 1
    assert all(r.info.status == "FINISHED" for r in runs)


def test_adapter_is_registered_and_answers(clone, monkeypatch):
    import mlflow
    import pandas as pd

    from abo_vqa.data.archive import open_archive

    monkeypatch.chdir(clone)
    uri = f"sqlite:///{clone / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        model = mlflow.pyfunc.load_model("models:/abo-vqa-blip-lora/1")
    finally:
        mlflow.set_registry_uri(None)  # other tests of this process have registries of their own
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ.pop("MLFLOW_REGISTRY_URI", None)
    test = pd.read_csv(clone / "data" / "test.csv", keep_default_na=False).head(8)
    said = pd.read_csv(
        clone / "reports" / "finetuned" / "predictions.csv", keep_default_na=False
    ).set_index("row_id")
    with open_archive(Path("data/raw/sample")) as archive:
        paths = []
        for index, image_path in enumerate(test["image_path"]):
            paths.append(str(clone / f"picture-{index}.jpg"))
            Path(paths[-1]).write_bytes(archive.read(image_path))
    answers = model.predict(pd.DataFrame({"image": paths, "question": test["question"]}))
    assert answers["answer"].tolist() == said.loc[test["row_id"], "prediction"].tolist()


def test_the_server_answers_as_the_pipeline(clone):
    """All test rows, several questions about an image at a time; confidences too."""
    import pandas as pd

    from abo_vqa.data.archive import open_archive

    test = pd.read_csv(clone / "data" / "test.csv", keep_default_na=False)
    for name, folder in (("finetuned", "finetuned"), ("blip", "baselines/blip")):
        file = clone / "reports" / folder / "predictions.csv"
        expected = pd.read_csv(file, keep_default_na=False).set_index("row_id")
        with (
            open_archive(clone / "data/raw/sample") as archive,
            ServerProcess(clone, "--model", name) as server,
        ):
            for path, rows in test.groupby("image_path"):
                reply = server.ask(archive.read(path), *rows["question"]).json()
                answers = pd.DataFrame(reply["answers"], index=rows["row_id"])
                recorded = expected.loc[rows["row_id"]]
                assert answers["answer"].tolist() == recorded["prediction"].tolist(), path
                assert answers["confidence"].tolist() == pytest.approx(
                    recorded["confidence"].astype(float).tolist(), abs=1e-4
                )


def test_bytecode_is_no_part_of_what_a_stage_depends_on(clone):
    """Where PYTHONDONTWRITEBYTECODE is set a run leaves none: the test writes its own."""
    folder = clone / "src" / "abo_vqa" / "models"
    assert compileall.compile_dir(folder, quiet=1, force=True)
    assert list(folder.rglob("*.pyc"))
    assert "up to date" in run(clone, "dvc", "status", "baseline")


def test_nothing_to_do_the_second_time(clone):
    before = (clone / "dvc.lock").read_bytes()
    said = run(clone, "dvc", "repro")
    assert "up to date" in said, said
    assert (clone / "dvc.lock").read_bytes() == before


def test_output_edited_in_place_is_noticed_and_put_back(clone):
    """Also by root, whom no permission stops: the cache has bytes of its own."""
    table = clone / "data" / "generated.csv"
    before = table.read_bytes()
    with table.open("ab") as file:
        file.write(before.splitlines(keepends=True)[-1])
    assert "data/generated.csv" in run(clone, "dvc", "status", "generate")
    run(clone, "dvc", "repro", "--single-item", "generate")
    assert table.read_bytes() == before
    assert "up to date" in run(clone, "dvc", "status")


def test_last_screen_of_make_repro(clone):
    """README's table in at most 100 columns, the report, and what to do next."""
    lines = run(clone, "abo-vqa", "show").splitlines()
    readme = (clone / "README.md").read_text(encoding="utf-8")
    table = readme.partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    models = re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)
    assert [line.split()[0] for line in lines[1 : 1 + len(models)]] == models
    assert set(models) <= MODELS
    assert max(len(line) for line in lines if "file://" not in line) <= 100
    assert (clone / "reports" / "report.html").as_uri() in [line.strip() for line in lines]
    assert any("dvc exp run -S lora.r=8" in line for line in lines)


@pytest.mark.parametrize(("service", "processes"), [("kaggle", 2), ("colab", None)])
def test_notebooks_continue_a_session_and_show_its_results(
    clone, saved, tmp_path, service, processes
):
    """Restored from what the clone has computed: nothing but imports costs anything."""
    shutil.copytree(saved, tmp_path / "saved")
    executed = notebooks.execute(
        service, tmp_path, PROFILE="sample", PROCESSES=processes, EMBEDDINGS=True,
        REPOSITORY=str(clone), CHECKOUT=str(tmp_path / "abo-vqa"), SAVED=str(tmp_path / "saved"),
    )  # fmt: skip
    printed = notebooks.printed(executed)
    assert "restored from" in printed
    assert "Stage 'finetune' didn't change, skipping" in printed
    assert "Running stage" not in printed
    assert (tmp_path / "abo-vqa/dvc.lock").read_bytes() == (clone / "dvc.lock").read_bytes()
    table = run(clone, "abo-vqa", "show", "--markdown")
    assert notebooks.shown(executed, "text/markdown")[0] == table
    assert len(notebooks.shown(executed, "image/png")) == 6  # five figures, and MLflow's curves
    assert (tmp_path / "abo-vqa-report/report.html").is_file()
    assert json.loads((tmp_path / "saved/session.json").read_text())["number"] == 2


def test_experiment_with_rank_8(clone):
    """Last in this module: it changes the workspace."""
    run(clone, "git", "add", "--all")
    run(clone, "git", "commit", "--quiet", "--allow-empty", "-m", "results of the first run")
    _, before = tracked(clone)
    said = run(clone, "dvc", "exp", "run", "-n", "rank-8", "-S", "lora.r=8")
    executed = {line.split("'")[1] for line in said.splitlines() if "Running stage '" in line}
    assert executed == {"finetune", "predict", "evaluate", "report"}
    adapter = json.loads((clone / "models" / "adapter" / "adapter_config.json").read_text())
    assert adapter["r"] == 8
    table = run(clone, "dvc", "exp", "show", "--csv", "--only-changed")
    assert "rank-8" in table
    client, after = tracked(clone)
    new = [r for r in after if r.info.run_id not in {r.info.run_id for r in before}]
    assert sorted(r.data.tags["mlflow.runName"] for r in new) == [
        "evaluate", "finetune", "predict", "rank-8", "report",
    ]  # fmt: skip
    assert len(client.search_model_versions("name = 'abo-vqa-blip-lora'")) == 2
