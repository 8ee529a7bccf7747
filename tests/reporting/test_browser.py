"""The prediction browser in a real Chromium: offline, right, free of errors, smooth at 10,000."""

import re
import statistics

import pytest

from abo_vqa.core.config import load_config
from abo_vqa.reporting import browser, writing
from abo_vqa.reporting.browser_data import collect_browser_data
from abo_vqa.reporting.inputs import load_results
from abo_vqa.reporting.pdf import find_browser, print_pdf
from abo_vqa.stages import report
from tests.support.browser_scripts import CHANGES, ROOM, SCROLL
from tests.support.chrome import chromium
from tests.support.reports import make

BROWSER = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (nor BROWSER_PATH set)"),
]
ROWS = 10_000


def reported(folder, images, seed, embedded):
    """The pages of a made-up run, without the figures (they have their own tests)."""
    make(folder, images, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(writing, "draw_figures", lambda results: [])
        patch.setattr(browser, "EMBEDDED_PREDICTIONS", embedded)
        report.run(load_config())
        data = browser.browser_payload(collect_browser_data(load_results(load_config())), {})
    return folder / "reports", data


@pytest.fixture(scope="module", params=[10**9, 0], ids=["one file", "parts"])
def small(request, tmp_path_factory):
    return reported(tmp_path_factory.mktemp("small"), 200, 5, request.param)


@pytest.fixture(scope="module")
def page():
    with chromium(BROWSER) as tab:
        # No network at all: what isn't in the file can't come.
        tab.tab.context.set_offline(True)
        yield tab


@pytest.fixture
def opened(page, small):
    """Open the small browser page at an address fragment; afterwards nothing may be logged."""
    page.size(1400, 900)
    page.problems.clear()

    def open_at(fragment=""):
        page.open((small[0] / "browser.html").as_uri() + fragment)
        page.run("reading")
        return page

    yield open_at
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


class Rows:
    """The page's data with the questions a test asks of it, worked out independently."""

    def __init__(self, data):
        self.data, self.n = data, len(data["rows"]["id"])
        self.metric = [name for name, _ in data["metrics"]].index
        self.model = [m["id"] for m in data["models"]].index

    def value(self, model, i, metric="accuracy"):
        vector = self.data["predictions"][self.model(model)]["vector"][i]
        return self.data["vectors"][vector][self.metric(metric)]

    def text(self, column, i):
        return self.data["strings"][self.data["rows"][column][i]]

    def prediction(self, model, i):
        return self.data["strings"][self.data["predictions"][self.model(model)]["text"][i]]

    def count(self, test):
        return sum(bool(test(i)) for i in range(self.n))


@pytest.fixture(scope="module")
def rows(small):
    return Rows(small[1])


def shown(page):
    """How many rows the page says it shows."""
    return int(page.run("document.getElementById('count').textContent").split()[0].replace(",", ""))


def chip(page, box, value):
    """The count on a filter button."""
    return int(
        page.run(f"document.querySelector('#{box} [data-value=\"{value}\"] span').textContent")
    )


def choose(page, **fields):
    for name, value in fields.items():
        field = page.tab.locator(f"#{name}")
        if name in ("model", "vs", "product", "metric", "sort"):
            field.select_option(value)
        else:
            field.fill(value)


def click(page, selector):
    page.tab.click(selector)


def test_filters_and_counts(opened, rows):
    page = opened()
    assert shown(page) == rows.n
    wrong = rows.count(lambda i: rows.value("finetuned", i) == 0)
    assert chip(page, "outcome", "wrong") == wrong
    click(page, "#outcome [data-value=wrong]")
    assert shown(page) == wrong
    colors = rows.count(
        lambda i: rows.value("finetuned", i) == 0 and rows.text("type", i) == "color"
    )
    assert chip(page, "type", "color") == colors
    click(page, "#type [data-value=color]")
    assert shown(page) == colors
    # The other outcomes are counted under the remaining filters.
    right = rows.count(
        lambda i: rows.value("finetuned", i) == 1 and rows.text("type", i) == "color"
    )
    assert chip(page, "outcome", "right") == right
    click(page, "#reset")
    choose(page, product="lamp")
    assert shown(page) == rows.count(lambda i: rows.text("product", i) == "lamp")


def test_failures_are_an_outcome_of_their_own(opened, rows):
    page = opened("#model=blip2&outcome=failed")
    failed = len(rows.data["predictions"][rows.model("blip2")]["error"])
    assert failed > 0
    assert shown(page) == failed
    assert "out of memory" in page.run("document.getElementById('detail').textContent")


def test_disagreement_of_two_models(opened, rows):
    page = opened()
    assert page.run("document.getElementById('differ-box').hidden")
    choose(page, vs="blip")

    def a(i):
        return rows.value("finetuned", i)

    def b(i):
        return rows.value("blip", i)

    def differ(i):
        return rows.prediction("finetuned", i) != rows.prediction("blip", i)

    expected = {
        "answers": rows.count(differ),
        "first": rows.count(lambda i: a(i) == 1 and b(i) == 0),
        "second": rows.count(lambda i: a(i) == 0 and b(i) == 1),
        "both": rows.count(lambda i: a(i) == b(i) == 1),
        "neither": rows.count(lambda i: a(i) == b(i) == 0),
    }  # fmt: skip
    assert {value: chip(page, "differ", value) for value in expected} == expected
    click(page, "#differ [data-value=second]")
    assert shown(page) == expected["second"]


def test_metric_range_and_search(opened, rows):
    page = opened()
    choose(page, metric="wup", min="0.2", max="0.5")
    inside = rows.count(lambda i: 0.2 <= (rows.value("finetuned", i, "wup") or 0) <= 0.5)
    assert inside > 0
    assert shown(page) == inside
    click(page, "#reset")
    choose(page, q="COLOR lamp")
    assert shown(page) == rows.count(
        lambda i: "color" in rows.text("question", i).lower() and "lamp" in rows.text("question", i)
    )
    choose(page, q="no such thing")
    assert shown(page) == 0
    assert not page.run("document.getElementById('none').hidden")


def test_sorting_puts_missing_values_last(opened, rows):
    for direction, order in (("up", min), ("down", max)):
        page = opened(f"#model=blip2&sort=wup&dir={direction}")
        first = page.run("+document.querySelector('.row').dataset.row")
        known = [v for i in range(rows.n) if (v := rows.value("blip2", i, "wup")) is not None]
        index = rows.data["rows"]["id"].index(first)
        assert rows.value("blip2", index, "wup") == order(known)
        page.run("document.getElementById('list').scrollTop = 1e9")
        page.run(
            "new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))"
        )
        last = page.run("+[...document.querySelectorAll('.row')].at(-1).dataset.row")
        assert rows.value("blip2", rows.data["rows"]["id"].index(last), "wup") is None


def selected(page):
    return page.run("+document.querySelector('.row[aria-selected=true]').dataset.row")


def test_keyboard_and_permalink(opened, rows):
    ids = rows.data["rows"]["id"]
    page = opened()
    assert selected(page) == ids[0]
    for key in ("ArrowDown", "j", "ArrowDown", "k"):
        page.press(key)
    assert selected(page) == ids[2]
    page.press("End")
    assert selected(page) == ids[-1]
    page.press("w")
    assert shown(page) == rows.count(lambda i: rows.value("finetuned", i) == 0)
    page.press("w")
    page.press("/")
    assert page.run("document.activeElement.id") == "q"
    page.press("j")  # while typing it is a letter, not a command
    assert page.run("document.getElementById('q').value") == "j"
    # Any view is a link: open it and see the same row, model and filters.
    wanted = next(i for i in range(rows.n) if rows.value("vilt", i) == 0 and i > rows.n // 2)
    page = opened(f"#model=vilt&vs=blip&outcome=wrong&row={ids[wanted]}")
    assert selected(page) == ids[wanted]
    assert page.run("document.getElementById('model').value") == "vilt"
    link = page.run("location.href")
    count = shown(page)
    page = opened("#" + link.split("#")[1])
    assert (selected(page), shown(page)) == (ids[wanted], count)


def test_detail_compares_all_models(opened, rows):
    page = opened("#vs=blip")
    cells = page.run(
        "[...document.querySelectorAll('#detail tr.pick')].map(r => r.children[1].textContent)"
    )
    assert len(cells) == len(rows.data["models"])
    assert cells[0] == rows.prediction("finetuned", 0)
    assert cells[1] == rows.prediction("blip", 0)
    assert page.run("document.querySelector('#detail .photo img').naturalWidth") > 0


def test_narrow_screens_dont_scroll_sideways(opened, small):
    page = opened()
    for name in ("browser.html", "report.html"):
        page.size(390, 844)
        page.open((small[0] / name).as_uri())
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), name


@pytest.mark.parametrize("width", [1280, 390])
def test_the_chosen_models_names_are_not_cut_off(opened, width):
    page = opened("#vs=blind-question")
    page.size(width, 844)
    room = page.run(ROOM)
    assert len(room) == 2
    assert all(spare >= 0 for spare in room.values()), room


def test_error_cards_of_the_report_lead_to_their_row(page, small, rows):
    page.size(1400, 900)
    page.open((small[0] / "report.html").as_uri())
    assert page.problems == []
    wanted = page.run("document.querySelector('.cards a').href")
    page.open(wanted)
    page.run("reading")
    assert f"row={selected(page)}" in wanted
    assert page.problems == []


@pytest.mark.parametrize("embedded", [10**9, 0], ids=["one file", "parts"])
def test_ten_thousand_rows_stay_smooth(page, tmp_path, embedded):
    folder, data = reported(tmp_path, -(-ROWS * 5 // 3), 7, embedded)
    rows = Rows(data)
    assert rows.n >= ROWS * 0.98
    page.size(1400, 900)
    page.open((folder / "browser.html").as_uri())
    page.run("reading")
    assert shown(page) == rows.n
    # A fast scroll (ten rows a frame) and jumps to anywhere: time to draw, and rows that exist.
    scrolled, jumped = (
        page.run(SCROLL % {"by": 600, "frames": 150}),
        page.run(SCROLL % {"by": 19_000, "frames": 30}),
    )
    assert jumped["end"] > 500_000
    assert max(scrolled["most"], jumped["most"]) < 60
    assert statistics.median(scrolled["times"]) < 16  # 60 frames a second
    assert statistics.median(jumped["times"]) < 100
    # Every filter, search and sort answers within what feels instant.
    times = page.run(CHANGES)
    medians = {k: statistics.median(v["times"]) for k, v in
               (("scroll", scrolled), ("jump", jumped))}  # fmt: skip
    print("ms:", {k: round(v, 1) for k, v in {**medians, **times}.items()})
    assert max(times.values()) < 400, times
    assert page.problems == []


def test_a_view_waits_for_the_parts_it_needs(page, tmp_path):
    folder, data = reported(tmp_path, 60, 5, 0)
    rows = Rows(data)
    page.problems.clear()
    page.open((folder / "browser.html").as_uri() + "#model=vilt&sort=bartscore&outcome=wrong")
    page.run("reading")
    assert shown(page) == rows.count(lambda i: rows.value("vilt", i) == 0)
    assert page.problems == []
    # Without one of its scripts the page names it, and shows the rest.
    (folder / "browser" / "model-3.js").unlink()
    page.open((folder / "browser.html").as_uri())
    page.run("reading")
    assert "model-3.js is missing" in page.run("document.getElementById('count').textContent")
    assert page.run("document.querySelectorAll('.row').length") > 0
    page.problems.clear()


def test_report_prints_to_pdf(small):
    target = print_pdf(small[0] / "report.html", small[0] / "report.pdf")
    content = target.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 3
