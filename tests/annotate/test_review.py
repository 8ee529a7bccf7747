"""The page for people, in a real Chromium: what they decide there is what the pipeline does."""

from __future__ import annotations

import base64
import csv
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from abo_vqa.annotate.review import write_review_page
from abo_vqa.cli import main
from abo_vqa.core.config import load_config
from abo_vqa.reporting.pdf import find_browser
from abo_vqa.stages.generate import run
from tests.support.annotation import configure, make, vqa
from tests.support.chrome import Page, chromium

BROWSER = find_browser()
ODD = 'Is it a "lamp", or </script><b>none</b>?'  # CSV's, JSON's and HTML's own characters
PAIRS = ((ODD, "None"), ("What color is it, näher betrachtet?", "red"), ("How many?", "2"))


@pytest.fixture
def reviewed(here: Path) -> list[tuple[str, str, str]]:
    """A set of nine pairs and its page; returns the pairs in the page's order."""
    rows = make(here, 3)
    with (here / "own.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["image_path", "question", "answer"])
        writer.writerows([row["image_path"], *pair] for row in rows for pair in PAIRS)
    run(configure(here, annotator="file", file="own.csv"))
    assert main(["generate", "--review", "page.html"]) == 0
    text = (here / "page.html").read_text(encoding="utf-8")
    paths = sorted(
        (row["image_path"] for row in rows), key=lambda path: text.index(f'alt="{path}"')
    )
    return [(path, *pair) for path in paths for pair in PAIRS]


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    assert BROWSER is not None
    with chromium(BROWSER) as tab:
        # No network at all: what isn't in the file can't come.
        tab.send("Network.emulateNetworkConditions", offline=True, latency=0,
                 downloadThroughput=0, uploadThroughput=0)  # fmt: skip
        yield tab


def click(page: Page, selector: str) -> None:
    """A real click in the middle of an element."""
    x, y = page.run(
        f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView("
        "{block: 'center'}); const r = e.getBoundingClientRect();"
        " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def decisions(page: Page) -> list[str]:
    return list(page.run("[...document.querySelectorAll('li')].map(e => e.dataset.decision)"))


def saved(page: Page, folder: Path) -> Path:
    """Press the button and wait for the file."""
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    click(page, "#save")
    for _ in range(100):
        if (folder / "review.csv").is_file():
            return folder / "review.csv"
        time.sleep(0.05)
    raise AssertionError("no review.csv came within 5 s")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium installed (nor BROWSER_PATH set)")
def test_what_people_reject_leaves_the_set(
    reviewed: list[tuple[str, str, str]], browser: Page, here: Path
) -> None:
    browser.size(1200, 900)
    browser.open((here / "page.html").as_uri())
    images = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert browser.run(f"document.images.length === 3 && {images}")
    asked = browser.run("[...document.querySelectorAll('li p')].map(e => e.textContent)")
    assert asked == [f"{question} {answer}" for _, question, answer in reviewed]
    # By mouse: reject, keep, and one taken back.
    click(browser, "#pair-0 button[value=reject]")
    click(browser, "#pair-1 button[value=keep]")
    click(browser, "#pair-2 button[value=reject]")
    click(browser, "#pair-2 button[value=reject]")
    # By keyboard, from the pair clicked last on.
    for key in ("ArrowDown", "k", "x", "x"):
        browser.press(key)
    expected = ["reject", "keep", "", "keep", "reject", "reject", "", "", ""]
    assert decisions(browser) == expected
    assert browser.run("document.getElementById('done').textContent") == (
        "5 of 9 checked, 3 rejected"
    )
    browser.open((here / "page.html").as_uri())  # closed and opened again
    assert decisions(browser) == expected
    with saved(browser, here).open(newline="", encoding="utf-8") as handle:
        found = [tuple(row.values()) for row in csv.DictReader(handle)]
    assert found == [(*pair, said) for pair, said in zip(reviewed, expected, strict=True)]
    assert browser.problems == []
    assert [u for u in browser.requests if not u.startswith(("file:", "data:", "blob:"))] == []

    run(configure(here, annotator="file", file="own.csv", review="review.csv"))
    kept = {(row["image_path"], row["question"], row["answer"]) for row in vqa(here)}
    assert kept == {p for p, said in zip(reviewed, expected, strict=True) if said != "reject"}
    with (here / "data/rejects.csv").open(newline="") as handle:
        out = [row for row in csv.DictReader(handle) if row["reason"] == "review"]
    assert len(out) == 3


def test_the_page_needs_nothing_else(reviewed: list[tuple[str, str, str]], here: Path) -> None:
    """What can be told without a browser: images inside, no address, nothing unescaped."""
    text = (here / "page.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 3
    assert "http" not in text
    assert text.count("</script>") == 1
    assert "<b>none</b>" not in text


def test_images_are_upright_and_one_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "images/small/00"
    for part in ("listings/metadata", "images/metadata", "images/small/00"):
        (tmp_path / part).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 30), (200, 0, 0)).save(folder / "a.jpg", exif=exif)
    (folder / "b.jpg").write_bytes(b"nothing")
    rows = "00/a.jpg,what?,red\n00/b.jpg,what?,red\n"
    (tmp_path / "vqa.csv").write_text(f"image_path,question,answer\n{rows}")
    config = load_config()
    there = config.model_copy(update={"data": config.data.model_copy(update={"raw": tmp_path})})
    assert write_review_page(tmp_path / "vqa.csv", there, 9, tmp_path / "page.html") == 2
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    (shown,) = re.findall('data:image/jpeg;base64,([^"]+)', text)
    image = Image.open(io.BytesIO(base64.b64decode(shown)))
    assert (image.size, image.getexif().get(0x0112)) == ((30, 20), None)
    assert "00/b.jpg can&#39;t be read" in text or "00/b.jpg can't be read" in text
