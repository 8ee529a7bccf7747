"""Stage `report`: every number so far → figures, the report, the prediction browser, the cards."""

from __future__ import annotations

import argparse

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.paths import BROWSER, CARDS, FIGURES, REPORT, REPORT_MARKDOWN, REPORT_PDF
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.reporting.browser import browser_payload, render_browser
from abo_vqa.reporting.cards import render_cards
from abo_vqa.reporting.figures.register import draw_figures, write_figure
from abo_vqa.reporting.inputs import load_results
from abo_vqa.reporting.pages import (
    page_figure,
    render_html,
    render_markdown,
    report_context,
    write_page,
)
from abo_vqa.reporting.pdf import print_pdf
from abo_vqa.reporting.tables import error_cards
from abo_vqa.reporting.thumbnails import (
    data_uri,
    embed_thumbnails,
    make_thumbnails,
    save_thumbnails,
)


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write `reports/{report.html,report.md,browser.html}`, `figures/`, `cards/`, `thumbnails/`.

    Args:
        config: the settings.

    Raises:
        UserError: An input is missing.
    """
    results = load_results(config)
    figures = []
    for figure, drawing in draw_figures(results):
        write_figure(figure.name, drawing, FIGURES)
        figures.append(page_figure(figure, drawing))
    thumbnails = make_thumbnails(results)
    errors = error_cards(results)
    error_thumbnails = {e["image_path"]: data_uri(thumbnails[e["image_path"]]) for e in errors}
    context = report_context(results, figures, error_thumbnails, errors)
    write_page(REPORT, render_html(context))
    write_page(REPORT_MARKDOWN, render_markdown(context))
    for name, text in render_cards(results, context).items():
        write_page(CARDS / name, text)
    embedded = len(thumbnails) <= config.report.embed_thumbnails
    payload = browser_payload(
        results, (embed_thumbnails if embedded else save_thumbnails)(thumbnails)
    )
    write_page(BROWSER, render_browser(config.report.title, payload))
    rows, models = len(payload["rows"]["id"]), len(payload["models"])
    return Summary(
        message=f"{context['conclusion']}\n{REPORT}: {len(figures)} figures; "
        f"{BROWSER}: {rows} rows × {models} models.",
        metrics={"figures": len(figures), "rows": rows},
        artifacts=(REPORT, REPORT_MARKDOWN, BROWSER, FIGURES, CARDS),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument(
        "--pdf", action="store_true", help="print reports/report.html to PDF (needs a browser)"
    )


def command(args: argparse.Namespace) -> int:
    """Run the stage, or what the options ask for.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if args.pdf:
        print(print_pdf(REPORT, REPORT_PDF))
    else:
        print(execute("report", run, load_config()))
    return 0
