"""`abo-vqa benchmark`: models on a table from elsewhere, with a folder or a tar of its images."""

import io
import json
import re
import signal
from contextlib import redirect_stdout
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from abo_vqa.cli import main
from abo_vqa.core.tables import read_table
from abo_vqa.reporting import style, writing
from tests.support.benchmarks import BENCHMARK, BLIND, exam
from tests.support.forks import Fork, command


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exam(tmp_path_factory.mktemp("benchmark"), "blip", "vilt", "clip")


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.setattr(style, "DPI", 30)
    return project


@pytest.fixture
def unillustrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "draw_figures", lambda _: [])


@pytest.fixture(scope="module")
def written(project: Path) -> tuple[Path, str]:
    """A run with all models by default, and what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.chdir(project)
        patch.setattr(style, "DPI", 30)
        assert main([*BENCHMARK, "--out", "all", "--models", "blip,clip-train,vilt,blind"]) == 0
    return project / "all", printed.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_model_answers_every_row(written: tuple[Path, str]) -> None:
    folder, said = written
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics) == ["blip", "clip-train", "vilt", *BLIND]
    assert {values["n"] for values in metrics.values()} == {26}
    assert "image_path ← 'Image File', question ← 'Query', answer ← 'GT'" in said
    assert "1 of 26 rows have no image: 1 × No such file or directory (e.g. 'gone.png')" in said
    for model in metrics:
        table = read_table(folder / "predictions" / f"{model}.csv")
        assert table["row_id"].tolist() == [str(row) for row in range(26)]
        failed = table[table["error"] != ""]
        assert failed["row_id"].tolist() == ["24"]  # without an image nobody answers, blind or not
        scores = pd.read_parquet(folder / "scores" / f"{model}.parquet")
        assert scores["accuracy"].mean() == pytest.approx(metrics[model]["accuracy"], abs=1e-6)
        assert scores["image_path"].iloc[[1, 25]].tolist() == ["set/photo-0.png", "set/photo-1.png"]


def test_the_statistics_are_the_pipelines(written: tuple[Path, str]) -> None:
    evaluation = json.loads((written[0] / "evaluation.json").read_text())
    assert {"intervals", "pairs", "slices", "calibration", "counting", "yes_no"} <= set(evaluation)
    assert len(evaluation["pairs"]) == 7 * 6 / 2
    assert evaluation["best_blind"] in BLIND
    assert not {"fractions", "learning_curve"} & set(evaluation)
    assert "bootstrap over images" in evaluation["signature"]["intervals"]
    assert evaluation["slices"]["blip"]["seen_question"]


class Sections(HTMLParser):
    """The headings of a page, each with what stands below it up to the next one."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        if tag in ("h2", "h3"):
            self.inside = True
            self.found.append([tag, "", ""])
        elif tag in ("img", "svg") and self.found:
            self.found[-1][2] += tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h2", "h3"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][1 if self.inside else 2] += data.strip()


def test_the_report_has_no_empty_section(written: tuple[Path, str]) -> None:
    page = (written[0] / "report.html").read_text(encoding="utf-8")
    sections = Sections(page).found
    titles = [title for tag, title, _ in sections if tag == "h2"]
    assert titles == [
        "Model comparison", "Accuracy by slice", "Confidence", "Errors", "Data", "Metrics",
        "Method", "Provenance",
    ]  # fmt: skip
    for (tag, title, text), follows in zip(sections, [*sections[1:], None], strict=True):
        parent = tag == "h2" and follows is not None and follows[0] == "h3"
        assert text or parent, title
    linked = re.findall(r'<li><a href="#(\w+)">', page)
    assert linked == [name for name in linked if f'id="{name}"' in page]
    assert "the study" not in page.lower()
    assert "exam.csv" in page
    markdown = (written[0] / "report.md").read_text(encoding="utf-8")
    assert "fitted on 27 rows of train.csv" in markdown
    assert not re.search(r"^#.*\n+(#|\Z)", markdown, re.MULTILINE)
    images = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert images
    assert all((written[0] / image).is_file() for image in images)


def test_nothing_of_the_machine_gets_in(written: tuple[Path, str], here: Path) -> None:
    for name, content in contents(written[0]).items():
        assert str(here).encode() not in content, name


@pytest.mark.usefixtures("unillustrated")
def test_a_tar_gives_the_same_answers(written: tuple[Path, str], here: Path) -> None:
    tar = ["benchmark", "--table", "exam.csv", "--images", "photos.tar", "--out", "from-tar"]
    assert main([*tar, "--models", "blip,clip-train,vilt"]) == 0
    for name in ("metrics.json", "predictions/blip.csv", "predictions/blind-ngram.csv"):
        assert (here / "from-tar" / name).read_bytes() == (written[0] / name).read_bytes()
    page = (here / "from-tar/browser.html").read_text(encoding="utf-8")
    payload = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert payload["images"]["path"][0] == "set/photo-0.png"
    assert payload["images"]["thumb"][0].startswith("data:image/webp")
    assert not list((here / ".cache/abo-vqa/benchmark").iterdir())


@pytest.mark.parametrize("call", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_and_resumed_is_the_same_folder(
    written: tuple[Path, str], here: Path, call: int
) -> None:
    """Killed (-9) in a later model's journal, or while the results are written."""
    words = [*BENCHMARK, "--out", f"killed-{call}", "--models", "blip,clip-train,vilt"]
    killed = Fork(partial(command, *words, killed_at=call))
    stderr = killed.wait()
    assert killed.returncode == -signal.SIGKILL, stderr[-2000:]
    assert not (here / f"killed-{call}").exists()
    journals = list((here / ".cache/abo-vqa/benchmark").rglob("answers-*.jsonl"))
    assert journals
    again = Fork(command, *words)
    stderr = again.wait()
    assert again.returncode == 0, stderr[-2000:]
    assert contents(here / f"killed-{call}") == contents(written[0])
    assert not list((here / ".cache/abo-vqa/benchmark").iterdir())
    assert not list(here.glob(".killed-*"))
