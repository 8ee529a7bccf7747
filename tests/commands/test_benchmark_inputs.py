"""`abo-vqa benchmark`: what it is given. Leaks, models that fail, folders, mistakes."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from abo_vqa.cli import main
from abo_vqa.core.tables import read_table
from abo_vqa.data.image_decoding import phash, sha1
from abo_vqa.models.blip.model import Blip
from abo_vqa.reporting import writing
from tests.support.adapters import adapter_for
from tests.support.benchmarks import BENCHMARK, BLIND, exam


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exam(tmp_path_factory.mktemp("benchmark"), "blip", "vilt")


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace; the report without its figures."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(writing, "draw_figures", lambda _: [])
    return project


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_leak_is_told_and_never_fitted_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By path, although the test table spells it otherwise; the blind fit goes without its rows."""
    train = read_table("data/train.csv")[["image_path", "question", "answer"]]
    shared = train.iloc[:2].assign(image_path="C:\\exam\\set\\photo-3.png", answer="leaked")
    pd.concat([train, shared]).to_csv("leaky.csv", index=False)
    options = ["--train", "leaky.csv", "--models", "vilt", "--out", "leak"]
    assert main([*BENCHMARK, *options]) == 0
    said = capsys.readouterr().out
    assert "leak: 1 of 9 images are in leaky.csv too; a model that was trained on it" in said
    assert "fitted on 27 rows of leaky.csv, without the 2 about images of this table" in said
    page = (here / "leak/report.html").read_text(encoding="utf-8")
    assert "leak: 1 of 9 images are in leaky.csv too" in page[: page.index("</header>")]
    assert "images on both sides" in page
    for model in BLIND:
        assert "leaked" not in read_table(f"leak/predictions/{model}.csv")["prediction"].tolist()


def test_a_copy_under_another_name_is_a_leak(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (here / "photos/set/photo-2.png").read_bytes()
    train = read_table("data/train.csv").iloc[:1]
    other = train.assign(image_path="z.png", image_sha1=sha1(data), phash=phash(data, "z.png"))
    other.to_csv("copies.csv", index=False)
    assert main([*BENCHMARK, "--train", "copies.csv", "--models", "vilt", "--out", "leak"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"leak: 1 of 9 images are in copies\.csv too and \d look like one there", said)
    assert "fitted on this table itself, in five parts by image" in said
    assert "all rows of copies.csv are about images of this table" in said


def test_without_training_rows_the_table_itself_is_fitted_on_in_parts(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--models", "vilt", "--out", "parts", "--cross-fit"]
    assert main([*BENCHMARK, *options]) == 0
    with_train = capsys.readouterr().out
    assert "none of the 9 images is in train.csv" in with_train
    (here / "data/train.csv").rename(here / "data/away.csv")
    try:
        assert main([*BENCHMARK, *options[:-1]]) == 0
    finally:
        (here / "data/away.csv").rename(here / "data/train.csv")
    without = capsys.readouterr().out
    assert "there are no training rows to compare this table with" in without
    for said in (with_train, without):
        assert "fitted on this table itself, in five parts by image" in said
    evaluation = json.loads((here / "parts/evaluation.json").read_text())
    assert "seen_question" not in evaluation["slices"]["vilt"]
    page = (here / "parts/report.html").read_text(encoding="utf-8")
    assert "What it shares with the training rows" not in page


def test_a_model_that_fails_leaves_the_others_results(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "models/vilt").rename(here / "models/away")
    command = [*BENCHMARK, "--models", "vilt,blip", "--out", "some"]
    try:
        assert main(command) == 1
    finally:
        (here / "models/away").rename(here / "models/vilt")
    said = capsys.readouterr()
    assert "vilt has no results: can't load the checkpoint models/vilt: no folder" in said.err
    assert "the same command asks for what is missing" in said.err
    assert "vilt" not in json.loads((here / "some/metrics.json").read_text())
    assert "vilt has no results: " in (here / "some/report.html").read_text(encoding="utf-8")

    monkeypatch.setattr(Blip, "predict_answers", None)  # its answers are kept: nobody asks again
    assert main(command) == 0
    assert list(json.loads((here / "some/metrics.json").read_text()))[:2] == ["vilt", "blip"]
    assert not list((here / ".cache/abo-vqa/benchmark").iterdir())


def test_by_default_the_settings_models_and_an_adapter(
    here: Path,
) -> None:
    params = yaml.safe_load((here / "params.yaml").read_text())
    params["baselines"]["models"] = ["vilt", "blind"]
    adapter = adapter_for(here / "models/blip", here / "own-adapter", ["query", "value"])
    before = (here / "params.yaml").read_text()
    (here / "params.yaml").write_text(yaml.safe_dump(params))
    try:
        assert main([*BENCHMARK, "--out", "default", "--adapter", adapter.name]) == 0
    finally:
        (here / "params.yaml").write_text(before)
    metrics = json.loads((here / "default/metrics.json").read_text())
    assert list(metrics) == ["vilt", "finetuned", "finetuned-ranked", *BLIND]
    page = (here / "default/report.html").read_text(encoding="utf-8")
    assert "adapter: adapter_model.safetensors" in page
    answers = {model: read_table(f"default/predictions/{model}.csv") for model in metrics}
    assert not answers["finetuned"].equals(answers["finetuned-ranked"])
    known = set(read_table("data/train.csv")["answer"])
    assert set(answers["finetuned-ranked"]["prediction"]) <= {*known, ""}


def test_one_image_is_too_little_for_a_fit_on_the_table(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before a model is asked, not after hours."""
    Path("one.csv").write_text("image,question,answer\nphoto-1.png,what?,a\nphoto-1.png,is?,b\n")
    command = ["benchmark", "--table", "one.csv", "--images", "photos", "--out", "never"]
    assert main([*command, "--models", "vilt", "--cross-fit"]) == 2
    said = capsys.readouterr()
    assert "the blind baselines can't be fitted on this table" in said.err
    assert "Name a table to fit them on with --train FILE." in said.err
    assert "vilt" not in said.out
    assert main([*command[:-1], "one", "--models", "vilt"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "blipp"], "no model is called 'blipp'. Did you mean blip?"),
        (["--models", "clip"], "Its variants are clip-fixed"),
        (["--models", ","], "names no model"),
        (["--models", "finetuned"], "no adapter in models/adapter"),
        (["--metrics", "f1,cider"], "no metric cider"),
        (["--table", "gone.csv"], "no table at gone.csv"),
        (["--table", "empty.csv"], "empty.csv has a header and no rows"),
        (["--table", "unanswered.csv"], "lacks the column answer or ground_truth"),
        (["--table", "elsewhere.csv"], "none of the 2 images of elsewhere.csv is in photos: 2 × "),
        (["--images", "gone"], "no folder gone; --images names the folder, or the tar"),
        (["--images", "photos.tar.gz"], "photos.tar.gz is compressed (gzip)"),
        (["--images", "exam.csv"], "exam.csv isn't a tar archive"),
        (["--train", "unanswered.csv"], "lacks the column answer"),
        (["--out", "photos"], "--out photos exists, and this command didn't write it"),
        (["--out", "exam.csv"], "--out exam.csv is a file"),
    ],
)
def test_mistakes_are_one_message(
    here: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.csv").write_text("image,question,answer\n")
    Path("unanswered.csv").write_text("image,question\nphoto-1.png,what?\n")
    Path("elsewhere.csv").write_text("image,question,answer\nx.png,what?,a\ny.png,what?,b\n")
    Path("photos.tar.gz").write_bytes(b"\x1f\x8b\x08 and so on")
    before = contents(here / "photos")
    assert main([*BENCHMARK, "--out", "never", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not Path("never").exists()
    assert contents(here / "photos") == before


def test_only_its_own_folder_is_replaced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*BENCHMARK, "--models", "vilt", "--out", "mine"]
    assert main(command) == 0
    (here / "mine/predictions/old.csv").write_text("of an earlier run")
    (here / "mine/exam.csv").write_bytes((here / "exam.csv").read_bytes())
    inside = ["benchmark", "--table", "mine/exam.csv", "--images", "photos", "--out", "mine"]
    assert main(inside) == 2
    assert "mine/exam.csv would be removed with --out mine" in capsys.readouterr().err
    assert main(command) == 0
    assert not (here / "mine/predictions/old.csv").exists()
