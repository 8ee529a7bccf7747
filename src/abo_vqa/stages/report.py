"""Stage `report`: every number so far → figures, the report, the prediction browser, the cards."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from abo_vqa.config import load_config
from abo_vqa.core.paths import BROWSER, CARDS, FIGURES, REPORT, REPORT_MARKDOWN, REPORT_PDF
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.reporting import tables
from abo_vqa.reporting.browser import payload, render_browser
from abo_vqa.reporting.cards import render_cards
from abo_vqa.reporting.figures import draw, save
from abo_vqa.reporting.inputs import load
from abo_vqa.reporting.pages import context, render_html, render_markdown
from abo_vqa.reporting.thumbnails import beside, data_uri, embed, make_thumbnails, write

if TYPE_CHECKING:
    from abo_vqa.config import Config


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
    write(REPORT, render_html(values))
    write(REPORT_MARKDOWN, render_markdown(values))
    for name, text in render_cards(results, values).items():
        write(CARDS / name, text)
    addresses = embed(pictures) if embedded else beside(pictures)
    browser = payload(results, addresses)
    write(BROWSER, render_browser(config.report.title, browser))
    return Summary(
        message=f"{values['conclusion']}\n{REPORT}: {len(drawings)} figures; "
        f"{BROWSER}: {len(browser['rows']['id'])} rows × "
        f"{len(browser['models'])} models.",
        metrics={"figures": len(drawings), "rows": len(browser["rows"]["id"])},
        artifacts=(REPORT, REPORT_MARKDOWN, BROWSER, FIGURES, CARDS),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pdf", action="store_true", help="print reports/report.html to PDF (needs a browser)"
    )


def command(args: argparse.Namespace) -> int:
    if args.pdf:
        from abo_vqa.reporting.pdf import print_pdf

        print(print_pdf(REPORT, REPORT_PDF))
        return 0
    return execute("report", run, load_config())
