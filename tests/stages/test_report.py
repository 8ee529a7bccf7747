"""The report stage on made-up results of a whole run: what it writes, and twice the same."""

import ast
import json
import re
import shlex
from dataclasses import asdict
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow.utils.search_utils import SearchUtils

from abo_vqa.core.config import load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import file_md5
from abo_vqa.reporting import browser, style, writing
from abo_vqa.reporting.figures.register import FIGURE_REGISTER
from abo_vqa.reporting.formatting import points
from abo_vqa.reporting.pages import SECTIONS
from abo_vqa.stages import report
from tests.support import ROOT
from tests.support.forks import Fork
from tests.support.reports import SKILL, make

IMAGES, SEED = 60, 3


def report_with_small_figures() -> None:
    """Run the stage; small figures are drawn faster."""
    style.DPI = 30
    report.run(load_config())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same results reported twice: here, and in a process with another folder and hash seed."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("somewhere-else")
    for folder in (here, there):
        make(folder, IMAGES, SEED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(there)
        other = Fork(report_with_small_figures)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(style, "DPI", 30)
        summary = report.run(load_config())
    stderr = other.wait()
    assert other.returncode == 0, stderr[-2000:]
    return here, there, summary


@pytest.fixture(scope="module")
def folder(runs):
    return runs[0] / "reports"


def written(folder):
    made = ("report.html", "report.md", "browser.html", "browser", "figures", "cards", "thumbnails")
    files = [p for p in (folder / "reports").rglob("*") if p.is_file()]
    return {
        p.relative_to(folder).as_posix(): p for p in files if p.parts[len(folder.parts) + 1] in made
    }


def test_two_runs_write_the_same_bytes(runs):
    here, there = written(runs[0]), written(runs[1])
    assert len(here) > 2 * len(FIGURE_REGISTER)
    assert here.keys() == there.keys()
    different = [name for name in here if here[name].read_bytes() != there[name].read_bytes()]
    assert different == []


def test_nothing_of_a_machine_or_a_day_gets_in(runs):
    for name, path in written(runs[0]).items():
        content = path.read_bytes()
        assert str(runs[0]).encode() not in content, name
        assert str(Path.home()).encode() + b"/" not in content, name
        if path.suffix == ".png":
            assert re.search(rb"tIME|tEXt|iTXt", content) is None, name


class Links(HTMLParser):
    """Every address a page names in an attribute, and the texts of its scripts and styles."""

    def __init__(self):
        super().__init__()
        self.loaded, self.linked, self.texts, self.inside = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        for name, value in attrs:
            if name in ("src", "srcset", "poster", "data") or (name == "href" and tag != "a"):
                self.loaded.append(value)
            elif name == "href":
                self.linked.append(value)

    def handle_data(self, data):
        if self.inside in ("style", "script"):
            self.texts.append(data)

    def handle_endtag(self, tag):
        self.inside = ""


def links(page):
    parser = Links()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("page", ["report.html", "browser.html"])
def test_pages_load_nothing_from_outside(folder, page):
    found = links(folder / page)
    assert found.loaded
    assert [address[:60] for address in found.loaded if not address.startswith("data:")] == []
    code = "\n".join(text for text in found.texts if not text.lstrip().startswith("{"))
    assert re.search(r"@import|url\((?!#)|https?://|fetch\(|XMLHttpRequest|import\(", code) is None
    for address in found.linked:
        target = address.split("#")[0]
        assert target == "" or (folder / target).is_file(), address


def test_first_screen_is_the_answer(runs, folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    html = (folder / "report.html").read_text(encoding="utf-8")
    sentence = re.search(r'<p class="answer">(.*?)</p>', html).group(1)
    accuracy = f"{100 * metrics['finetuned']['accuracy']:.1f}%"
    assert accuracy in sentence
    assert "never sees an image" in sentence
    assert runs[2].message.startswith("BLIP fine-tuned with LoRA answers " + accuracy)
    head = html[: html.index("</header>")]
    rows = re.findall(r'<tr class="(?:finetuned|zero-shot|blind)">', head)
    assert len(rows) == len(SKILL)
    for values in metrics.values():
        assert f"{100 * values['accuracy']:.1f}%" in head


def test_the_report_says_what_ranking_is_worth(folder):
    """The paired difference as evaluated, and what the candidates cover."""
    evaluation = json.loads((folder / "evaluation.json").read_text())
    pair = next(
        p for p in evaluation["pairs"] if {p["a"], p["b"]} == {"finetuned", "finetuned-ranked"}
    )
    assert (pair["a"], pair["b"]) == ("finetuned", "finetuned-ranked")  # so the sign turns
    world = evaluation["closed_world"]
    for page in ("report.html", "report.md"):
        text = unescape((folder / page).read_text(encoding="utf-8"))
        assert (
            f"Choosing the likeliest of train's {world['candidates']} answers instead of writing "
            f"freely changes the accuracy of BLIP + LoRA by {points(-pair['difference'])} points "
            f"(95% interval {points(-pair['high'])} to {points(-pair['low'])})"
        ) in text
        assert f"{100 * world['covered']:.1f}% of the test rows have one of these answers" in text
        assert "BLIP + LoRA, ranked" in text


def test_every_figure_is_drawn_with_its_data(folder):
    pictures = {p.stem for p in (folder / "figures").glob("*.png")}
    tables = {p.stem for p in (folder / "figures" / "data").glob("*.csv")}
    assert pictures == {figure.name for figure in FIGURE_REGISTER}
    assert pictures == tables
    for table in tables:
        assert len(pd.read_csv(folder / "figures" / "data" / f"{table}.csv")) > 0
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert {name for name in pictures if f'id="fig-{name}"' in html} == pictures


def test_every_figure_is_a_dvc_plot():
    images = [f"reports/figures/{figure.name}.png" for figure in FIGURE_REGISTER]
    data = [
        {figure.title: dvc_plot(figure.name, figure.dvc_plot)}
        for figure in FIGURE_REGISTER
        if figure.dvc_plot
    ]
    assert yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] == [*images, *data]


def dvc_plot(name, plot):
    """A plot of a figure's data, as dvc.yaml spells it."""
    entry = {key: value for key, value in asdict(plot).items() if value is not None}
    return {**entry, "y": {f"reports/figures/data/{name}.csv": plot.y}}


def test_every_figure_has_its_own_name_and_a_section_of_the_page():
    assert len({figure.name for figure in FIGURE_REGISTER}) == len(FIGURE_REGISTER)
    sections = [figure.section for figure in FIGURE_REGISTER]
    assert sections == sorted(sections, key=list(SECTIONS).index)


def test_provenance_names_hashes_that_lead_to_commit_and_runs(runs, folder):
    html = (folder / "report.html").read_text(encoding="utf-8")
    md5 = file_md5(folder / "metrics.json")
    assert f"git log --oneline -S {md5} -- dvc.lock" in html
    command = html[html.index("python -c ") : html.index("</pre>", html.index("python -c "))]
    python, option, code = shlex.split(unescape(command))  # as a shell reads it
    assert (python, option) == ("python", "-c")
    (call,) = [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "mlflow.search_runs"
    ]
    options = {option.arg: ast.literal_eval(option.value) for option in call.keywords}
    assert options["experiment_names"] == [load_config().tracking.experiment]
    (condition,) = SearchUtils.parse_search_filter(options["filter_string"])
    assert condition == {
        "type": "tag", "key": "dvc.out.reports/metrics.json", "comparator": "=", "value": md5
    }  # fmt: skip
    assert "<dt>lora.r</dt>" in html
    assert "<dt>torch</dt>" in html


def test_cards_and_markdown_carry_the_same_numbers(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    accuracy = f"{100 * metrics['finetuned']['accuracy']:.1f}%"
    for name in ("report.md", "cards/model.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert text.count(f"| **BLIP + LoRA** | {accuracy} |") == 1
        assert "![" not in text or all(
            (folder / link).is_file() for link in re.findall(r"!\[.*?\]\((.*?)\)", text)
        )
    assert f"| images | {3 * IMAGES} |" in (folder / "cards" / "data.md").read_text()


def test_a_catalogue_of_ones_own_has_its_own_name_and_no_study(tmp_path, monkeypatch):
    """What the sample's profile says about its catalogue, and nothing of another one's."""
    make(tmp_path, IMAGES, SEED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(style, "DPI", 30)
    profile = tmp_path / "conf/profiles/sample.yaml"
    settings = yaml.safe_load(profile.read_text())
    data = {key: settings["data"][key] for key in ("raw", "licence")}
    settings["data"] = {**data, "name": "Jane's chairs", "attribution": "Chairs by Jane."}
    profile.write_text(yaml.safe_dump(settings))
    report.run(load_config())
    markdown = (tmp_path / "reports/report.md").read_text()
    page = (tmp_path / "reports/report.html").read_text()
    assert markdown.startswith("# Visual question answering on Jane's chairs\n")
    assert "Chairs by Jane." in page
    assert 'id="study"' not in page
    assert not (tmp_path / "reports/figures/study.png").exists()
    assert (tmp_path / "reports/figures/clip-regimes.png").exists()
    texts = [markdown, page, *(p.read_text() for p in (tmp_path / "reports/cards").iterdir())]
    assert [word for word in ("Berkeley", "The study") for text in texts if word in text] == []


def test_past_the_limit_thumbnails_lie_beside_the_page(runs, tmp_path, monkeypatch):
    make(tmp_path, 12, SEED)
    params = tmp_path / "params.yaml"
    params.write_text(re.sub(r"embed_thumbnails: \d+", "embed_thumbnails: 1", params.read_text()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writing, "draw_figures", lambda results: [])
    report.run(load_config())
    page = (tmp_path / "reports" / "browser.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    thumbs = data["images"]["thumb"]
    assert thumbs
    assert all(
        (tmp_path / "reports" / thumb).read_bytes()[:3] == b"\xff\xd8\xff" for thumb in thumbs
    )


def test_a_large_page_has_its_data_and_thumbnails_beside_it(runs, tmp_path, monkeypatch):
    make(tmp_path, 12, SEED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writing, "draw_figures", lambda results: [])
    monkeypatch.setattr(browser, "EMBEDDED_PREDICTIONS", 10)
    report.run(load_config())
    reports = tmp_path / "reports"
    beside = {path.name for path in (reports / "browser").iterdir()}
    assert {"rows.js", f"model-{len(SKILL) - 1}.js", "metric-0.js"} <= beside
    page = (reports / "browser.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert data["folder"] == "browser"
    assert list((reports / "thumbnails").rglob("*.jpg"))
    assert "data:image/webp" in (reports / "report.html").read_text()  # its cards need no files
    # A smaller one after it is a single file again.
    monkeypatch.setattr(browser, "EMBEDDED_PREDICTIONS", 10**9)
    report.run(load_config())
    assert [path.name for path in (reports / "browser").iterdir()] == ["README.txt"]


@pytest.mark.parametrize(
    ("lost", "said"),
    [("reports/metrics.json", "metrics.json"), ("reports/scores/vilt.parquet", "evaluate")],
)
def test_a_missing_input_is_named(tmp_path, monkeypatch, lost, said):
    make(tmp_path, 12, SEED, pictures=False)
    (tmp_path / lost).unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        report.run(load_config())


@pytest.mark.parametrize(
    "damaged",
    [
        "reports/metrics.json", "reports/evaluation.json", "reports/training.json",
        "reports/scores/vilt.parquet", "data/funnel.json", "data/types.csv", "data/test.csv",
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"\xff\xfe{", b"\x1f\x8b\x08cut off"])
def test_a_damaged_input_is_named(tmp_path, monkeypatch, damaged, content):
    make(tmp_path, 12, SEED, pictures=False)
    (tmp_path / damaged).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=damaged):
        report.run(load_config())


def test_unreadable_pictures_leave_a_gap_not_a_crash(tmp_path, monkeypatch):
    make(tmp_path, 12, SEED, pictures=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writing, "draw_figures", lambda results: [])
    report.run(load_config())
    assert "no image" in (tmp_path / "reports" / "report.html").read_text(encoding="utf-8")


def test_pdf_without_a_browser_says_what_to_do(folder, monkeypatch):
    from abo_vqa.reporting import pdf

    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(pdf, "_APPS", ())
    with pytest.raises(UserError, match="no browser found"):
        pdf.print_pdf(folder / "report.html", folder / "report.pdf")
    assert not (folder / "report.pdf").exists()
    with pytest.raises(UserError, match="make report"):
        pdf.print_pdf(folder / "nothing.html", folder / "report.pdf")
