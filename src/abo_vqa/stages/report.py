"""Stage `report`: every number so far → figures, the report, the prediction browser, the cards."""

from __future__ import annotations

import argparse

from abo_vqa.core.config import Config, load_config
from abo_vqa.core.paths import (
    BROWSER,
    BROWSER_DATA,
    CARDS,
    FIGURES,
    REPORT,
    REPORT_MARKDOWN,
    REPORT_PDF,
    REPORTS,
)
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.data.archive import open_archive
from abo_vqa.reporting.cards import render_cards
from abo_vqa.reporting.inputs import load_results
from abo_vqa.reporting.pages import write_page
from abo_vqa.reporting.pdf import print_pdf
from abo_vqa.reporting.writing import write_report


def run(config: Config, _log: Log = no_log) -> Summary:
    """Write `reports/{report.html,report.md,browser.html}` and what belongs to them.

    That is `browser/`, `figures/`, `cards/` and `thumbnails/` there.

    Args:
        config: the settings.

    Raises:
        UserError: An input is missing.
    """
    results = load_results(config)
    with open_archive(config.data.raw) as archive:
        report = write_report(results, archive.image, REPORTS)
    for name, text in render_cards(results, report.context).items():
        write_page(CARDS / name, text)
    return Summary(
        message=f"{report.context['conclusion']}\n{REPORT}: {report.figures} figures; "
        f"{BROWSER}: {report.rows} rows × {report.models} models.",
        metrics={"figures": report.figures, "rows": report.rows},
        artifacts=(REPORT, REPORT_MARKDOWN, BROWSER, BROWSER_DATA, FIGURES, CARDS),
        highlights=(REPORT, FIGURES / "models.png", FIGURES / "gain-over-blind.png"),
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
