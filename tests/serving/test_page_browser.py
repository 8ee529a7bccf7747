"""The page in a real Chromium, with a server that can reach this machine alone."""

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from PIL import Image
from playwright.sync_api import expect

from abo_vqa.reporting.pdf import find_browser
from tests.support import ROOT
from tests.support.chrome import Page, chromium
from tests.support.servers.ports import free_port
from tests.support.try_page import MARKUP

BROWSER = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (nor BROWSER_PATH set)"),
]
SLOW_MS = 120_000
DROP = """([data, name, type]) => {
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const target = document.querySelector('#vqa-image button, #vqa-image [role=button]');
  for (const kind of ['dragenter', 'dragover', 'drop'])
    target.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true }));
}"""

HEAT = """column => [...document.querySelectorAll('.vqa-card')[column]
.querySelectorAll('.vqa-heat')]
.filter(x => getComputedStyle(x).opacity > .9 && x.getBoundingClientRect().width > 50)
.map(x => x.src)"""


@pytest.fixture(scope="module")
def server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    port = free_port()
    connections = tmp_path_factory.mktemp("network") / "connections.txt"
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "CONNECTIONS": str(connections)}
    command = [sys.executable, "-m", "tests.support.page_server", str(port)]
    with subprocess.Popen(command, cwd=project, env=environment) as process:
        try:
            wait_until_up(f"http://127.0.0.1:{port}/try/", process)
            yield SimpleNamespace(url=f"http://127.0.0.1:{port}/try/", connections=connections)
        finally:
            process.terminate()


def wait_until_up(url: str, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 600
    while time.monotonic() < limit and process.poll() is None:
        try:
            urlopen(url, timeout=30).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the page's server didn't start")


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium(BROWSER) as page:
        page.tab.set_default_timeout(SLOW_MS)
        expect.set_options(timeout=SLOW_MS)
        yield page


@pytest.fixture
def page(browser: Page, server: SimpleNamespace) -> Iterator[Page]:
    browser.problems.clear()
    browser.open(server.url)
    browser.tab.locator("#vqa-ask").wait_for()
    yield browser
    local = (server.url.removesuffix("try/"), "data:", "blob:", "about:")
    assert [url for url in browser.requests if not url.startswith(local)] == []
    assert not server.connections.exists()  # nor has the server tried to reach anything
    # Gradio looks for a manifest and an icon at the root, where the application has none.
    # The third is a note of its own about every upload.
    ignored = ("404 (Not Found)", "Manifest fetch from", "Method not implemented.")
    assert [p for p in browser.problems if not any(text in p for text in ignored)] == []
    assert browser.tab.title() == "Ask about a product"


def upload(page: Page, file: Path) -> None:
    page.tab.locator("#vqa-image input[type=file]").set_input_files(str(file))
    page.tab.locator("#vqa-image img").first.wait_for(state="attached")


def ask(page: Page, question: str) -> None:
    box = page.tab.locator("#vqa-question textarea")
    box.fill(question)
    box.press("Enter")


def wait_for_answers(page: Page) -> None:
    page.tab.locator(".vqa-replies[aria-busy=false]").wait_for()


def visible_heat(page: Page, column: int = 0) -> list[str]:
    """The maps that can be seen over a column's photo."""
    page.tab.wait_for_timeout(300)  # they fade
    return page.run(HEAT, column)


def test_a_product_its_question_and_where_the_models_looked(page: Page) -> None:
    tab = page.tab
    tab.get_by_role("button", name="plain product").first.click()
    tab.locator(".vqa-questions button").first.click()
    wait_for_answers(page)
    expect(tab.locator(".vqa-card")).to_have_count(3)
    assert [tab.locator(".vqa-card h2").nth(i).inner_text() for i in range(3)] == [
        "Zero-shot", "Fine-tuned", "Blind",
    ]  # fmt: skip
    for column in (0, 1):
        expect(tab.locator(".vqa-card").nth(column).locator(".vqa-likeliest li")).to_have_count(5)
    assert "Reference answer" in tab.locator(".vqa-asked").inner_text()
    assert "isn’t calibrated" in tab.locator(".vqa-notes").inner_text()
    [first] = visible_heat(page)
    radios = tab.locator(".vqa-card").first.locator("input[type=radio]")
    radios.first.focus()
    assert len(visible_heat(page)) == 1
    page.press("ArrowRight")  # by the keyboard
    [second] = visible_heat(page)
    tab.locator(".vqa-card").first.locator(".vqa-tokens span").first.click()
    [third] = visible_heat(page)
    assert len({first, second, third}) >= 2
    words = tab.locator(".vqa-card").first.locator(".vqa-words p:visible")
    assert "most in the" in words.first.inner_text()
    assert visible_heat(page, 2) == []


def test_an_image_of_ones_own(page: Page, tmp_path: Path) -> None:
    """Uploaded after a product: its questions go, and there is no reference answer."""
    page.tab.get_by_role("button", name="plain product").first.click()
    page.tab.locator(".vqa-questions").wait_for()
    page.tab.locator("#vqa-image").get_by_label("Remove Image").or_(
        page.tab.locator("#vqa-image").get_by_label("Clear")
    ).first.click()
    page.tab.locator(".vqa-questions").wait_for(state="detached")
    image = tmp_path / "mine.png"
    Image.new("RGB", (80, 60), "green").save(image)
    upload(page, image)
    ask(page, "what color is it?")
    wait_for_answers(page)
    assert page.tab.locator(".vqa-answer").count() == 3
    assert page.tab.locator(".vqa-reference").count() == 0
    assert page.tab.locator("button[aria-pressed=true]").count() == 0


def test_dropping_a_file(page: Page, tmp_path: Path) -> None:
    image = tmp_path / "dropped.jpg"
    Image.new("RGB", (80, 60), "blue").save(image)
    data = base64.b64encode(image.read_bytes()).decode()
    page.run(DROP, [data, image.name, "image/jpeg"])
    page.tab.locator("#vqa-image img").first.wait_for()
    ask(page, "is it red?")
    wait_for_answers(page)
    assert page.tab.locator(".vqa-answer").count() == 3


def test_mistakes_are_explained_on_the_page(page: Page, tmp_path: Path) -> None:
    alert = page.tab.get_by_role("alert")
    page.tab.locator("#vqa-ask").click()
    expect(alert).to_contain_text("Choose a product first, or upload an image")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing else")
    page.tab.locator("#vqa-image input[type=file]").set_input_files(str(broken))
    expect(alert).to_contain_text("The image can't be read")  # without a question
    expect(page.tab.locator("#vqa-image img")).to_have_count(0)
    ask(page, "what?")
    expect(alert).to_contain_text("Choose a product first, or upload an image")
    page.tab.get_by_role("button", name="plain product").first.click()
    page.tab.locator(".vqa-questions").wait_for()
    ask(page, "")
    expect(alert).to_contain_text("Write a question first")
    ask(page, "lamp " * 500)
    expect(alert).to_contain_text("The question is too long: 2,499 characters, and 2,000 are")
    ask(page, "lamp " * 80)
    wait_for_answers(page)
    expect(page.tab.locator(".vqa-failed")).to_have_count(2)
    page.problems.clear()  # of the broken image, which the browser can't show either


def test_markup_stays_text(page: Page) -> None:
    page.tab.locator(".vqa-products button").filter(has_text="<img").click()
    expect(page.tab.locator(".vqa-questions b")).to_have_text(MARKUP)
    ask(page, MARKUP)
    wait_for_answers(page)
    asked = page.tab.locator(".vqa-asked")
    assert MARKUP in asked.inner_text()
    assert page.tab.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_and_the_dark(page: Page, scheme: str) -> None:
    tab = page.tab
    tab.emulate_media(color_scheme=scheme)
    page.size(360, 740)
    tab.reload()
    tab.get_by_role("button", name="plain product").first.click()
    tab.locator(".vqa-questions button").first.click()
    wait_for_answers(page)
    assert page.run("document.documentElement.scrollWidth") <= 360
    paper = page.run("getComputedStyle(document.querySelector('.vqa-card')).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(29, 34, 41)"}[scheme]
    around = page.run("getComputedStyle(document.body).backgroundColor")
    assert around == {"light": "rgb(247, 249, 251)", "dark": "rgb(20, 24, 29)"}[scheme]
    page.send("Emulation.clearDeviceMetricsOverride")
    tab.emulate_media(color_scheme="light")


def test_no_clutter_and_names_for_everything(page: Page) -> None:
    tab = page.tab
    for text in ("Built with Gradio", "Use via API", "Settings", "Flag", "Share"):
        assert tab.get_by_text(text, exact=False).locator("visible=true").count() == 0, text
    unnamed = page.run(
        """[...document.querySelectorAll('button, input:not([type=file]), textarea')].filter(x =>
        x.offsetParent && !(x.innerText.trim() || x.ariaLabel || x.title || x.labels?.length))
        .map(x => x.outerHTML.slice(0, 200))"""
    )
    assert unnamed == []
    assert page.run("document.documentElement.lang") == "en"
    assert tab.get_by_role("heading", level=1).count() == 1
