"""The report as HTML and Markdown: the templates' context, and their rendering."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from abo_vqa.core.files import atomic_write
from abo_vqa.core.page_policy import page_policy
from abo_vqa.core.paths import FINETUNED_MODELS
from abo_vqa.reporting import formatting, markdown, tables
from abo_vqa.reporting.ceiling import ceiling_caption, ceiling_note, ceiling_sentence
from abo_vqa.reporting.circularity import circularity_notes
from abo_vqa.reporting.figures.register import ReportFigure
from abo_vqa.reporting.findings import conclusion, further_findings
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.provenance import provenance
from abo_vqa.reporting.second_opinion import filter_table, second_opinion
from abo_vqa.reporting.style import Drawing, svg

_TEMPLATES = Path(__file__).parent / "templates"
# The report's sections, in order: id → title.
SECTIONS = {
    "answer": "The answer",
    "study": "Comparison with the study",
    "models": "Model comparison",
    "slices": "Accuracy by slice",
    "confidence": "Confidence",
    "errors": "Errors",
    "data": "Data",
    "training": "Training",
    "metrics": "Metrics",
    "method": "Method",
    "provenance": "Provenance",
}
# Metrics that say little about single-word answers.
_FOR_COMPARISON_ONLY = ("meteor", "wup", "bleu")
_FILTERS = {
    "count": formatting.count,
    "decimal": formatting.decimal,
    "format_value": formatting.format_value,
    "interval_text": formatting.interval_text,
    "metric_label": formatting.metric_label,
    "model_label": formatting.model_label,
    "p_value": formatting.p_value,
    "percent": formatting.percent,
    "points": formatting.points,
}
_GLOBALS = {
    "headline_table": markdown.headline_table,
    "markdown_table": markdown.markdown_table,
    "slice_table": markdown.slice_table,
    "value_table": markdown.value_table,
}


@cache
def template_environment() -> Environment:
    """Return the templates with the report's filters; an undefined name is an error."""
    environment = Environment(
        loader=PackageLoader("abo_vqa.reporting"),
        autoescape=select_autoescape(["html.j2", "svg.j2", "html"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS)
    environment.globals.update(_GLOBALS)
    return environment


def read_assets(*names: str) -> str:
    """Return the style sheets or scripts of a page, one after the other."""
    return "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def page_figure(figure: ReportFigure, drawing: Drawing) -> dict[str, Any]:
    """Return what the templates need of a figure whose image has been written.

    The SVG becomes an image address: inside the page, its styles and ids would meet other
    figures'.
    """
    encoded = base64.b64encode(svg(drawing.figure, figure.name).encode()).decode("ascii")
    return {
        "name": figure.name,
        "title": figure.title,
        "section": figure.section,
        "in_summary": figure.in_summary,
        "note": drawing.note,
        "caption": drawing.caption,
        "uri": f"data:image/svg+xml;base64,{encoded}",
    }


def report_context(
    results: Results,
    figures: Iterable[Mapping[str, Any]],
    thumbnails: Mapping[str, str | None],
    errors: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return everything that the report's templates name.

    Args:
        results: the run's numbers.
        figures: each figure that was drawn (`page_figure`).
        thumbnails: image path → data URI, for the error cards.
        errors: the error cards (`tables.error_cards`).
    """
    figures = list(figures)
    by_section = {id_: [f for f in figures if f["section"] == id_] for id_ in SECTIONS}
    parts = _context_tables(results)
    errors = [{**e, "thumbnail": thumbnails.get(e["image_path"])} for e in errors]
    blind, external = results.best_blind, results.external
    return {
        "title": results.title,
        "config": results.config,
        "level": results.level,
        "external": external,
        "beside_study": results.beside_study,
        "sections": _filled_sections(by_section, {**parts, "errors": errors}, results.beside_study),
        "figures": by_section,
        "summary_figures": [f for f in figures if f["in_summary"]],
        "conclusion": conclusion(results),
        "findings": further_findings(results),
        **_ceiling(results),
        "footnotes": circularity_notes(results.circular, results.verification),
        "blind_accuracy": results.metrics[blind]["accuracy"] if blind else None,
        "test_rows": results.test_rows,
        "test_images": results.scores[results.primary_model]["image_path"].nunique(),
        "primary_model": results.primary_model,
        "errors": errors,
        "for_comparison_only": _FOR_COMPARISON_ONLY,
        "signature": results.evaluation.get("signature", {}),
        "pipeline": _pipeline_counts(results),
        **parts,
        **provenance(results.config, None if external is None else external.hashes),
    }


def _ceiling(results: Results) -> dict[str, Any]:
    """Return how much can be right at most; nothing of it for another test set than the split's."""
    ceiling = results.ceiling
    sentence = ceiling_sentence(ceiling, results.verification.get("reviews"))
    best = results.ranking[0]
    if ceiling and results.metrics[best]["accuracy"] > ceiling["accuracy"]:
        sentence += (
            f" {formatting.model_label(best)} is above it: by chance, or because it agrees with "
            "wrong answers, too."
        )
    return {
        "ceiling": ceiling,
        "ceiling_note": ceiling_note(ceiling),
        "ceiling_caption": ceiling_caption(ceiling),
        "ceiling_sentence": "" if results.external else sentence,
    }


def _filled_sections(
    figures: Mapping[str, list[Any]], parts: Mapping[str, Any], beside_study: bool
) -> dict[str, str]:
    """Return the sections that something stands in: id → title."""
    tables = {
        "study": beside_study,
        "slices": parts["slices"] or parts["yes_no"] or parts["counting"],
        "confidence": parts["calibration"],
        "models": parts["paired"],
        "errors": parts["confused"] or parts["errors"],
        "training": False,
    }
    return {id_: text for id_, text in SECTIONS.items() if figures[id_] or tables.get(id_, True)}


def _context_tables(results: Results) -> dict[str, Any]:
    """Return the tables of the report by their names in the templates."""
    return {
        "headline": tables.headline_rows(results),
        "study": tables.study_rows(results),
        "slices": tables.slice_tables(results),
        "yes_no": tables.evaluation_table(results, "yes_no"),
        "counting": tables.evaluation_table(results, "counting"),
        "calibration": tables.evaluation_table(results, "calibration"),
        "confused": tables.confused_pairs(results),
        "curation": tables.curation_rows(results.funnel),
        "generation": tables.labelled_leaves(results.generate),
        "opinion": second_opinion(results.verification, results.generate),
        "filters": filter_table(results.verification),
        "audit": tables.audit_rows(results.audit),
        "metrics": tables.metric_table(results),
        "paired": tables.primary_model_pairs(results),
        "training": tables.training_rows(results),
    }


def _pipeline_counts(results: Results) -> dict[str, int]:
    """Return the counts in the diagram of the pipeline."""
    return {
        "images": results.funnel.get("images", 0),
        "balanced": len(results.balanced),
        "pairs": len(results.train) + len(results.test),
        "train": len(results.train),
        "test": len(results.test),
        "baselines": sum(model not in FINETUNED_MODELS for model in results.metrics),
    }


def render_html(context: Mapping[str, Any]) -> str:
    """Render report.html from `report_context`."""
    template = template_environment().get_template("report.html.j2")
    css, script = read_assets("base.css", "report.css"), read_assets("report.js")
    return template.render(**context, css=css, script=script, policy=page_policy(css, script))


def render_markdown(context: Mapping[str, Any]) -> str:
    """Render report.md from `report_context`."""
    return template_environment().get_template("report.md.j2").render(**context)


def write_page(path: Path, text: str) -> None:
    """Write a text file atomically, with Unix line ends."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
