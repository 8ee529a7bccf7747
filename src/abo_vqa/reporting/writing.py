"""The report's files: figures, page, Markdown, prediction browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.paths import BROWSER, FIGURES, REPORT, REPORT_MARKDOWN, THUMBNAILS
from abo_vqa.reporting.browser import browser_payload, render_browser
from abo_vqa.reporting.figures.register import draw_figures, write_figure
from abo_vqa.reporting.pages import (
    page_figure,
    render_html,
    render_markdown,
    report_context,
    write_page,
)
from abo_vqa.reporting.tables import error_cards
from abo_vqa.reporting.thumbnails import (
    data_uri,
    embed_thumbnails,
    make_thumbnails,
    save_thumbnails,
)

if TYPE_CHECKING:
    from abo_vqa.reporting.inputs import Results
    from abo_vqa.reporting.thumbnails import OpenImage


@dataclass(frozen=True)
class WrittenReport:
    """What was written.

    Attributes:
        context: everything that the templates name.
        figures: the number of figures.
        rows: the number of rows in the browser.
        models: the number of models there.
    """

    context: dict[str, Any]
    figures: int
    rows: int
    models: int


def write_report(results: Results, open_image: OpenImage, folder: Path) -> WrittenReport:
    """Write report.html, report.md, browser.html, figures/ and thumbnails/.

    Args:
        results: the run's numbers.
        open_image: returns the RGB image at a path, or raises `ImageError`; called in threads.
        folder: where the files go.
    """
    figures = []
    for figure, drawing in draw_figures(results):
        write_figure(figure.name, drawing, folder / FIGURES.name)
        figures.append(page_figure(figure, drawing))
    thumbnails = make_thumbnails(results, open_image)
    errors = error_cards(results)
    error_thumbnails = {e["image_path"]: data_uri(thumbnails[e["image_path"]]) for e in errors}
    context = report_context(results, figures, error_thumbnails, errors)
    write_page(folder / REPORT.name, render_html(context))
    write_page(folder / REPORT_MARKDOWN.name, render_markdown(context))
    embedded = len(thumbnails) <= results.config.report.embed_thumbnails
    place = embed_thumbnails if embedded else save_thumbnails
    payload = browser_payload(results, place(thumbnails, folder / THUMBNAILS.name))
    write_page(folder / BROWSER.name, render_browser(results.title, payload))
    return WrittenReport(context, len(figures), len(payload["rows"]["id"]), len(payload["models"]))
