"""DVC's commands about results, figures, storage and versions, in a real clone of this project."""

import re
import shutil
from pathlib import Path

import dvc.api
import pytest
import yaml
from helpers.scratch import run

from tests.support import ROOT, dvc_clones
from tests.support.dvc_clones import call

SAMPLE = Path("samples/dvc-remote")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Everything is pushed to `team`; the second commit has another cap for `curate`."""
    folder = dvc_clones.make(tmp_path_factory.mktemp("dvc") / "abo-vqa")
    run(folder, "git", "tag", "first")
    params = folder / "params.yaml"
    params.write_text(re.sub(r"(?m)^  cap: null", "  cap: 20", params.read_text(), count=1))
    call(folder, "repro", "-q", "curate")
    dvc_clones.commit_users(folder, "curate")
    run(folder, "git", "commit", "-qam", "cap 20")
    call(folder, "push", "-q", "-r", "team")
    return folder


def test_settings_metrics_and_files_that_differ(clone):
    assert re.search(r"params\.yaml +curate\.cap +- +20", call(clone, "params", "diff", "first"))
    metrics = call(clone, "metrics", "diff", "first", "HEAD", "--md")
    assert re.search(r"\| data/funnel\.json +\| balanced +\| 667 +\| \d+ +\| -\d+ +\|", metrics)
    assert "data/balanced.csv" in call(clone, "diff", "first", "HEAD")
    assert "No changes." in call(clone, "data", "status")
    assert "up to date" in call(clone, "status")


def test_every_stage_says_what_it_makes(clone):
    lines = call(clone, "stage", "list").splitlines()
    described = dict(line.split(maxsplit=1) for line in lines)
    assert len(described) == 20
    assert described["baseline@llava"] == "llava's answers to all questions"
    assert [line for line in lines if "Outputs" in line or "Reports" in line] == []
    assert max(map(len, lines)) <= 100


@pytest.mark.slow
def test_dag_as_text_and_for_a_page_of_git_hub(clone):
    assert "finetune" in call(clone, "dag", "finetune")
    lines = call(clone, "dag", "--mermaid").splitlines()
    assert lines[0] == "flowchart TD"
    names = dict(re.findall(r'\t(node\d+)\["(.+)"\]', "\n".join(lines)))
    arrows = {(names[a], names[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", str(lines))}
    assert {("finetune", "predict"), ("predict", "evaluate"), ("evaluate", "report")} <= arrows


def test_plots_have_titles_and_labels_and_the_page_says_what_needs_a_network(clone, tmp_path):
    call(clone, "plots", "diff", "first", "HEAD", "-o", str(tmp_path / "diff"))
    page = (tmp_path / "diff/index.html").read_text()
    images = {path.name for path in (tmp_path / "diff/static").iterdir()}
    assert {"first_reports_figures_models.png", "HEAD_reports_figures_models.png"} <= images
    assert 'id="offline"' in page
    assert "{plot_divs}" not in page
    plots = yaml.safe_load((clone / "dvc.yaml").read_text())["plots"]
    drawn = [plot for plot in plots if isinstance(plot, dict)]
    assert len(drawn) == 5
    for plot in drawn:
        ((title, settings),) = plot.items()
        for text in (title, settings["x_label"], settings["y_label"]):
            assert f'"{text}"' in page, text
        # The same data as an image, for readers without a network.
        ((path, _),) = settings["y"].items()
        assert path.replace("/data/", "/").replace(".csv", ".png") in plots


def test_a_colleague_pulls_and_has_nothing_to_compute(clone, tmp_path):
    folder = dvc_clones.second(clone, tmp_path / "second")
    call(folder, "pull", "-q", "-r", "team", "--allow-missing")
    call(folder, "pull", "-q", "-r", "sample", "data/raw/sample", "models/sample")
    assert "up to date" in call(folder, "status")
    assert "Running stage" not in call(folder, "repro", "--dry")
    assert dvc_clones.funnel(folder) == dvc_clones.funnel(clone)


def test_objects_of_the_sample_stay_out_of_a_teams_remote(clone):
    ours, theirs = (dvc_clones.objects(f) for f in (clone / SAMPLE, clone.parent / "remote"))
    assert len(theirs) > 20
    assert not ours & theirs


@pytest.mark.slow
def test_checkout_brings_back_what_was_deleted_or_edited(clone):
    table = clone / "data/balanced.csv"
    before = table.read_bytes()
    table.write_text("edited")
    assert "data/balanced.csv" in call(clone, "data", "status")
    call(clone, "checkout", "-q", "--force", "data/balanced.csv")
    assert table.read_bytes() == before


@pytest.mark.slow
def test_another_project_gets_and_imports_files(clone, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    run(other, "git", "init", "-q")
    call(other, "init", "-q")
    call(other, "get", str(clone), "models/adapter", "--remote", "team", "-o", "adapter")
    assert (other / "adapter/part").read_text() == "stand-in for adapter\n"
    call(other, "get", str(clone), "data/raw/sample", "-o", "raw")  # from the repository itself
    assert (other / "raw/abo-listings.tar").stat().st_size > 100_000
    words = ("import", str(clone), "data/train.csv", "--remote", "team", "--rev", "first")
    call(other, *words, "-q")
    imported = yaml.safe_load((other / "train.csv.dvc").read_text())
    assert imported["deps"][0]["repo"]["rev"] == "first"
    with dvc.api.open("data/train.csv", repo=str(clone), remote="team") as file:
        assert file.read() == (other / "train.csv").read_text()


@pytest.mark.slow
def test_settings_by_pythons_interface(clone):
    assert dvc.api.params_show(repo=str(clone), rev="HEAD")["curate"]["cap"] == 20
    assert dvc.api.params_show("params.yaml", repo=str(clone), rev="first")["curate"]["cap"] is None
    assert dvc.api.metrics_show(repo=str(clone))["finetuned"]["accuracy"] > 0


@pytest.mark.slow
def test_artifacts_have_versions_that_anybody_gets_by_name(clone, tmp_path):
    run(clone, "gto", "register", "abo-vqa-adapter", "--version", "v0.1.0")
    run(clone, "gto", "assign", "abo-vqa-adapter", "--version", "v0.1.0", "--stage", "prod")
    tags = run(clone, "git", "tag").split()
    assert {"abo-vqa-adapter@v0.1.0", "abo-vqa-adapter#prod#1"} <= set(tags)
    assert re.search(r"abo-vqa-adapter +\S* *v0\.1\.0", run(clone, "gto", "show").replace("│", ""))
    for words in (["--rev", "v0.1.0"], ["--stage", "prod"]):
        out = tmp_path / words[1]
        get = ["artifacts", "get", str(clone), "abo-vqa-adapter", *words, "--remote", "team"]
        call(tmp_path, *get, "-o", str(out))
        assert (out / "part").read_text() == "stand-in for adapter\n"
    entry = dvc.api.artifacts_show("abo-vqa-adapter", version="v0.1.0", repo=str(clone))
    assert entry["path"] == "models/adapter"
    assert entry["rev"] == run(clone, "git", "rev-parse", "HEAD").strip()


def test_artifacts_name_outputs_of_the_pipeline():
    project = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    outs = {
        out for stage in project["stages"].values() for out in stage.get("outs", [])
        if isinstance(out, str)
    }  # fmt: skip
    for artifact in project["artifacts"].values():
        assert artifact["path"] in outs
        assert artifact["type"] in ("model", "dataset")
        assert artifact["desc"]
        assert artifact["labels"]


@pytest.mark.slow
def test_gc_keeps_what_the_workspace_or_all_commits_use(clone, tmp_path):
    """After the tests that need the first commit's files: it deletes them."""
    old, new = (
        yaml.safe_load(run(clone, "git", "show", f"{rev}:dvc.lock"))["stages"]["curate"]["outs"]
        for rev in ("first", "HEAD")
    )
    cache = clone / ".dvc/cache"
    call(clone, "gc", "-q", "--all-commits", "--force")
    assert {out["md5"] for out in (*old, *new) if "funnel" not in out["path"]} <= (
        dvc_clones.objects(cache)
    )
    call(clone, "gc", "-q", "--workspace", "--force")
    assert old[0]["path"] == "data/balanced.csv"
    assert old[0]["md5"] not in dvc_clones.objects(cache)
    assert "up to date" in call(clone, "status")
    assert "data/balanced.csv" in call(clone, "diff", "first", "HEAD")  # hashes are Git's


def test_gc_of_remotes_keeps_the_samples_files(clone):
    """Whatever is collected from the sample's remote or beside it, this commit's files stay."""
    before = dvc_clones.objects(clone / SAMPLE)
    call(clone, "gc", "-q", "--workspace", "--cloud", "-r", "team", "--force")
    call(clone, "gc", "-q", "--workspace", "--cloud", "-r", "sample", "--force")
    assert dvc_clones.objects(clone / SAMPLE) == before


@pytest.mark.slow
def test_what_gets_into_the_samples_remote_by_mistake_git_undoes(clone):
    before = dvc_clones.objects(clone / SAMPLE)
    call(clone, "push", "-q", "-r", "sample", "data/balanced.csv")
    assert dvc_clones.objects(clone / SAMPLE) > before
    run(clone, "git", "clean", "-fdq", str(SAMPLE))
    shutil.rmtree(clone / SAMPLE / "files")
    run(clone, "git", "restore", str(SAMPLE))
    assert dvc_clones.objects(clone / SAMPLE) == before


def test_the_samples_remote_holds_what_is_used_and_nothing_else():
    """`dvc push -r sample` would add to the repository; this notices before a commit does."""
    used = set()
    for pin in ("data/raw/sample.dvc", "models/sample.dvc"):
        ((out,),) = [yaml.safe_load((ROOT / pin).read_text())["outs"]]
        folder = out["md5"]
        used.add(folder)
        listing = yaml.safe_load(
            (ROOT / SAMPLE / "files/md5" / folder[:2] / folder[2:]).read_text()
        )
        used |= {entry["md5"] for entry in listing}
    assert dvc_clones.objects(ROOT / SAMPLE) == used
