"""Stage `report`: every number so far → figures, the report, the prediction browser, the cards."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from abo_vqa.archive import open_archive
from abo_vqa.io import atomic_write
from abo_vqa.reporting import tables
from abo_vqa.reporting.browser import payload, render_browser
from abo_vqa.reporting.cards import render_cards
from abo_vqa.reporting.figures import draw, save
from abo_vqa.reporting.inputs import REPORTS, Results, load
from abo_vqa.reporting.pages import context, render_html, render_markdown
from abo_vqa.reporting.thumbnails import data_uri, thumbnails
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    from abo_vqa.config import Config

PAGES = ("report.html", "report.md", "browser.html")
FIGURES = REPORTS / "figures"
CARDS = REPORTS / "cards"
THUMBNAILS = REPORTS / "thumbnails"


def run(config: Config, log: Log = no_log) -> Summary:
    """Write `reports/{report.html,report.md,browser.html}`, `figures/`, `cards/`, `thumbnails/`.

    Raises:
        UserError: an input is missing.
    """
    results = load(config)
    drawings = {drawing.name: (drawing, save(drawing, FIGURES)) for drawing in draw(results)}
    pictures = make_thumbnails(results)
    embedded = len(pictures) <= config.report.embed_thumbnails
    errors = tables.errors(results)
    shown = {e["image_path"]: pictures.get(e["image_path"]) for e in errors}
    values = context(results, drawings, {p: data_uri(t) if t else None for p, t in shown.items()},
                     errors)  # fmt: skip
    write(REPORTS / "report.html", render_html(values))
    write(REPORTS / "report.md", render_markdown(values))
    for name, text in render_cards(results, values).items():
        write(CARDS / name, text)
    addresses = embed(pictures) if embedded else beside(pictures)
    browser = payload(results, addresses)
    write(REPORTS / "browser.html", render_browser(config.report.title, browser))
    return Summary(
        message=f"{values['conclusion']}\n{REPORTS / 'report.html'}: {len(drawings)} figures; "
        f"{REPORTS / 'browser.html'}: {len(browser['rows']['id'])} rows × "
        f"{len(browser['models'])} models.",
        metrics={"figures": len(drawings), "rows": len(browser["rows"]["id"])},
        artifacts=(*(REPORTS / name for name in PAGES), FIGURES, CARDS),
    )


def make_thumbnails(results: Results) -> dict[str, bytes | None]:
    """A thumbnail of every test picture."""
    config = results.config
    paths = dict.fromkeys(results.scores[results.focus]["image_path"])
    with open_archive(config.data.raw) as archive:
        return thumbnails(archive, paths, config.report.thumbnail, config.threads)


def embed(pictures: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """Addresses of thumbnails that live inside the page; the folder beside it says where."""
    write(THUMBNAILS / "README.txt", "All thumbnails are inside browser.html.\n")
    return {path: data_uri(content) if content else None for path, content in pictures.items()}


def beside(pictures: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """Write the thumbnails beside the page; return their addresses relative to it."""
    addresses: dict[str, str | None] = {}
    for path, content in pictures.items():
        target = (THUMBNAILS / path).with_suffix(".webp")
        if content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        addresses[path] = target.relative_to(REPORTS).as_posix() if content else None
    return addresses


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pdf", action="store_true", help="print reports/report.html to PDF (needs a browser)"
    )


def command(args: argparse.Namespace) -> int:
    if args.pdf:
        from abo_vqa.reporting.pdf import print_pdf

        print(print_pdf(REPORTS / "report.html", REPORTS / "report.pdf"))
        return 0
    return execute("report", run)
