"""The report as HTML and Markdown: numbers in, templates laid out, text back."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from abo_vqa.reporting import markdown, sentences, tables, words
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.provenance import provenance
from abo_vqa.reporting.style import Drawing

_TEMPLATES = Path(__file__).parent / "templates"
_CONTENTS = (
    ("answer", "The answer"),
    ("study", "Beside the study"),
    ("models", "Models against each other"),
    ("slices", "Where it is right"),
    ("confidence", "Confidence"),
    ("errors", "Errors"),
    ("data", "Data"),
    ("training", "Training"),
    ("metrics", "Metrics"),
    ("method", "Method"),
    ("provenance", "Provenance"),
)


@cache
def environment() -> Environment:
    """Templates with the report's filters; a misspelt name is an error."""
    made = Environment(
        loader=PackageLoader("abo_vqa.reporting"),
        autoescape=select_autoescape(["html.j2", "svg.j2", "html"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        name: getattr(words, name)
        for name in (
            "p_value",
            "label",
            "metric_label",
            "count",
            "percent",
            "points",
            "number",
            "span",
            "plain",
        )
    }
    made.filters.update(filters)
    shared = ("table", "headline_table", "slice_table", "pairs_table")
    made.globals.update({name: getattr(markdown, name) for name in shared})
    return made


def css(*names: str) -> str:
    return "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def script(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _svg_uri(svg: str) -> str:
    """An SVG as an image address: its styles and ids stay its own."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def context(
    results: Results,
    drawings: Mapping[str, tuple[Drawing, str]],
    thumbnails: Mapping[str, str | None],
    errors: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything the templates of the report name.

    Args:
        drawings: figure name → figure, its SVG.
        thumbnails: picture path → data URI, for the error cards.
        errors: the error cards (`tables.errors`).
    """
    figures: dict[str, Any] = {
        name: {"uri": _svg_uri(svg), "title": d.title, "note": d.note, "caption": d.caption}
        for name, (d, svg) in drawings.items()
    }
    made = provenance(results.config)
    blind = results.best_blind
    missing_sections = set() if "learning-curve" in figures else {"training"}
    return {
        "title": results.config.report.title,
        "config": results.config,
        "contents": [entry for entry in _CONTENTS if entry[0] not in missing_sections],
        "conclusion": sentences.conclusion(results),
        "findings": sentences.findings(results),
        "headline": tables.headline(results),
        "floor": results.metrics[blind]["accuracy"] if blind else None,
        "test_rows": results.metrics[results.ranking[0]].get("n"),
        "test_images": results.scores[results.focus]["image_path"].nunique(),
        "focus": results.focus,
        "study": tables.study_table(results),
        "slices": tables.slice_tables(results),
        "yes_no": tables.by_model(results, "yes_no", tables.YES_NO),
        "counting": tables.by_model(results, "counting", tables.COUNTING),
        "calibration": tables.by_model(results, "calibration", tables.CALIBRATION),
        "confused": tables.confused_pairs(results),
        "errors": [{**e, "thumbnail": thumbnails.get(e["image_path"])} for e in errors],
        "funnel": tables.funnel(results),
        "generate": tables.flatten(results.generate),
        "audit": tables.audit(results),
        "metrics": tables.metric_table(results),
        "paired": tables.paired(results),
        "for_comparison": words.FOR_COMPARISON,
        "signature": results.evaluation.get("signature", {}),
        "training": tables.training(results),
        "pipeline": pipeline(results),
        "provenance": made,
        "metrics_md5": dict(made["hashes"]).get("reports/metrics.json"),
        "figures": dict.fromkeys(FIGURE_NAMES) | figures,
    }


FIGURE_NAMES = (
    "models", "gain-over-blind", "paired-differences", "study", "clip-regimes", "question-types",
    "answer-length", "confusions", "counting", "calibration", "risk-coverage",
    "metric-correlation", "metric-distributions", "data-funnel", "product-types",
    "training-loss", "learning-curve",
)  # fmt: skip


def pipeline(results: Results) -> dict[str, int]:
    """Counts for the pipeline's picture."""
    return {
        "images": results.funnel.get("images", 0),
        "balanced": len(results.balanced),
        "pairs": len(results.train) + len(results.test),
        "train": len(results.train),
        "test": len(results.test),
        "baselines": sum(model != "finetuned" for model in results.metrics),
    }


def render_html(values: Mapping[str, Any]) -> str:
    template = environment().get_template("report.html.j2")
    return template.render(**values, css=css("base.css", "report.css"))


def render_markdown(values: Mapping[str, Any]) -> str:
    return environment().get_template("report.md.j2").render(**values)
