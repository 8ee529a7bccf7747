"""What a user of MLflow's browser sees, in a real Chromium: columns, figures, tables, the model."""

import os
import shutil
from pathlib import Path

import pytest
from mlflow_images import browser_of_runs
from PIL import Image

from abo_vqa.core.config import load_config
from abo_vqa.core.summary import Summary
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.champion import appoint, held_out_tags
from abo_vqa.core.tracking.runs import track
from tests.support.chrome import chromium
from tests.support.tracking import dvc_commit, git, make_pipeline, stages

CHROME = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROME is None, reason="there is no Chromium"),
]


@pytest.fixture
def recorded(tmp_path, monkeypatch, tables):
    """Two invocations, the second of which ran `evaluate` only, and a model version."""
    folder = make_pipeline(tmp_path / "checkout")
    shutil.copy(tables, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    dvc_commit()
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    figure = folder / "models.png"
    Image.new("RGB", (300, 200), "teal").save(figure)
    config = load_config()
    tables_of = {"changed": {"question": ["What color is the sofa?"], "finetuned": ["teal"]}}
    for name, names in (("rank-16", ("split", "finetune", "evaluate")), ("again", ("evaluate",))):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        for stage in names:
            monkeypatch.setenv("DVC_STAGE", stage)
            headline = {"accuracy": 0.6591, "gain_over_blind": 0.4229}
            with track(stage, config) as tracker:
                summary = Summary("done", tables=tables_of, artifacts=(figure,))
                if stage == "finetune":
                    summary = Summary("done", headline={"best_validation_accuracy": 0.6038})
                if stage == "evaluate":
                    summary = Summary(
                        "done",
                        outcome="66% are right",
                        headline=headline,
                        highlights=(figure,),
                        tables=tables_of,
                    )
                tracker.finish(summary)
    run = next(run for run in stages()[1] if run.info.run_name == "finetune")
    client = connect()
    client.create_registered_model("adapters")
    version = client.create_model_version("adapters", f"runs:/{run.info.run_id}/model").version
    appoint(client, "adapters", version, "sample", held_out_tags("rows", [True, False]))
    yield folder
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def address(recorded):
    with browser_of_runs() as url:
        yield url


def test_the_browser_tells_the_story(address):
    client = connect()
    experiment = client.get_experiment_by_name("abo-vqa").experiment_id
    runs = client.search_runs([experiment])
    again = next(run for run in runs if run.info.run_name == "again").info.run_id
    evaluate = next(run for run in runs if run.info.run_name == "evaluate").info.run_id
    home = f"{address}/experiments/{experiment}"
    with chromium(CHROME) as page:
        page.tab.set_default_timeout(30_000)
        page.size(2400, 1200)  # in a narrow tab a description's end is hidden

        def shows(text):
            page.tab.get_by_text(text).first.wait_for()

        # the description's link opens a table with the headline columns
        page.open(f"{home}/runs")
        with page.tab.expect_popup() as opened:  # MLflow opens a description's links in a new tab
            page.tab.get_by_role("link", name="Compare experiments").first.click()
        table = opened.value
        table.set_viewport_size({"width": 2400, "height": 1200})  # the rest isn't in the document
        for text in ("gain_over_blind", "best_validation_accuracy", "0.659", "rank-16", "again"):
            table.get_by_text(text).first.wait_for(timeout=30_000)
        table.close()
        # the parent's description starts with the result, above what the browser hides
        page.open(f"{home}/runs/{again}")
        page.tab.locator("strong", has_text="66% are right").wait_for()
        # it says what was restored, and the link leads to the run that made it
        page.tab.get_by_role("button", name="Expand description").click()
        shows("not run, restored from")
        with page.tab.expect_popup() as opened:
            page.tab.get_by_role("link", name="rank-16").first.click()
        opened.value.wait_for_url(lambda url: "/runs/" in url and again not in url)
        opened.value.close()
        # figures and tables are displayed
        page.open(f"{home}/runs/{again}/artifacts/models.png")
        page.tab.locator("img[src^='blob:'], canvas, img[src*='artifact']").first.wait_for()
        page.open(f"{home}/runs/{evaluate}/artifacts/tables/changed.json")
        shows("What color is the sofa?")
        # the model's page has the alias and the decision
        page.open(f"{address}/models/adapters/versions/1")
        shows("champion-sample")
        shows("the first version of profile sample")
    assert Path("mlflow.db").is_file()
