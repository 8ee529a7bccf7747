"""The report's files: figures, page, Markdown, prediction browser."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.paths import (
    BROWSER,
    BROWSER_DATA,
    FIGURES,
    REPORT,
    REPORT_MARKDOWN,
    THUMBNAILS,
)
from abo_vqa.reporting import browser
from abo_vqa.reporting.browser_data import collect_browser_data
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
    embed_thumbnails,
    note_embedding,
    pick_thumbnails,
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
    """Write report.html, report.md, browser.html, browser/, figures/ and thumbnails/.

    Args:
        results: the run's numbers.
        open_image: returns the RGB image at a path, or raises `ImageError`; called in threads.
        folder: where the files go.
    """
    figures = []
    for figure, drawing in draw_figures(results):
        write_figure(figure.name, drawing, folder / FIGURES.name)
        figures.append(page_figure(figure, drawing))
    thumbnails = _write_thumbnails(results, open_image, folder / THUMBNAILS.name)
    errors = error_cards(results)
    paths = [error["image_path"] for error in errors]
    pictured = pick_thumbnails(thumbnails, paths, open_image, results.config)
    context = report_context(results, figures, pictured, errors)
    write_page(folder / REPORT.name, render_html(context))
    write_page(folder / REPORT_MARKDOWN.name, render_markdown(context))
    _write_browser(results, thumbnails, folder)
    return WrittenReport(context, len(figures), _count_rows(results), len(results.ranking))


def _count_rows(results: Results) -> int:
    return len(results.scores[results.primary_model])


def _write_thumbnails(
    results: Results, open_image: OpenImage, folder: Path
) -> dict[str, str | None]:
    """Make a thumbnail of every test image; return their addresses by path.

    Few are embedded in the page that shows them; many, or those of a page that has its data beside
    it anyway, become files.
    """
    paths = list(dict.fromkeys(results.scores[results.primary_model]["image_path"]))
    if _is_one_file(results) and len(paths) <= results.config.report.embed_thumbnails:
        note_embedding(folder, "All thumbnails")
        return embed_thumbnails(paths, open_image, results.config)
    return save_thumbnails(paths, open_image, folder, results.config)


def _is_one_file(results: Results) -> bool:
    return _count_rows(results) * len(results.ranking) <= browser.EMBEDDED_PREDICTIONS


def _write_browser(results: Results, thumbnails: Mapping[str, str | None], folder: Path) -> None:
    """Write browser.html, and the data of a large one beside it."""
    data = collect_browser_data(results)
    beside = folder / BROWSER_DATA.name
    if _is_one_file(results):
        payload = browser.browser_payload(data, thumbnails)
        shutil.rmtree(beside, ignore_errors=True)  # of an earlier, larger report
        note_embedding(beside, "All predictions")
    else:
        payload = browser.write_browser_parts(data, thumbnails, beside)
    write_page(folder / BROWSER.name, browser.render_browser(results.title, payload))
