"""The register of figures: page, files and DVC's plots all follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from abo_vqa.core.files import atomic_write
from abo_vqa.core.tables import write_table
from abo_vqa.reporting.figures.answers import (
    plot_answer_length,
    plot_confusions,
    plot_counting,
    plot_question_types,
)
from abo_vqa.reporting.figures.confidence import plot_calibration, plot_risk_coverage
from abo_vqa.reporting.figures.data import plot_funnel, plot_product_types
from abo_vqa.reporting.figures.metrics import plot_correlation, plot_distributions
from abo_vqa.reporting.figures.models import (
    plot_gain_over_blind,
    plot_models,
    plot_paired_differences,
)
from abo_vqa.reporting.figures.study import plot_clip_regimes, plot_study
from abo_vqa.reporting.figures.training import plot_learning_curve, plot_training_loss
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import Drawing, add_title, png, report_style


@dataclass(frozen=True)
class DvcPlot:
    """How `dvc plots` draws a figure's data, beside the image.

    Attributes:
        x: column of the data.
        y: column of the data.
        x_label: what the x axis shows.
        y_label: what the y axis shows.
        template: DVC's template; None for its default.
    """

    x: str
    y: str
    x_label: str
    y_label: str
    template: str | None = None


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes:
        name: stem of its files.
        title: what it shows.
        section: id of the report's section that it stands in.
        plot: draws it; None if the run has no data for it (no training, no confidences).
        in_summary: whether the short report.md shows it too.
        in_scores: whether `abo-vqa score` draws it too, from a single table of scores.
        dvc_plot: how DVC draws its data, None for the image alone.
    """

    name: str
    title: str
    section: str
    plot: Callable[[Results], Drawing | None]
    in_summary: bool = False
    in_scores: bool = False
    dvc_plot: DvcPlot | None = None


# In the order of the page.
FIGURE_REGISTER = (
    ReportFigure("study", "The study and this run", "study", plot_study, in_summary=True),
    ReportFigure(
        "gain-over-blind",
        "Gain over the best blind baseline",
        "models",
        plot_gain_over_blind,
        in_summary=True,
        dvc_plot=DvcPlot(
            x="value",
            y="model",
            x_label="accuracy minus the best blind baseline's",
            y_label="model",
            template="bar_horizontal",
        ),
    ),
    ReportFigure("models", "All models on the same test rows", "models", plot_models),
    ReportFigure("clip-regimes", "CLIP by candidate list", "models", plot_clip_regimes),
    ReportFigure("paired-differences", "Pairwise differences", "models", plot_paired_differences),
    ReportFigure(
        "question-types",
        "Accuracy by question type",
        "slices",
        plot_question_types,
        in_summary=True,
        in_scores=True,
    ),
    ReportFigure("answer-length", "F1 by answer length", "slices", plot_answer_length),
    ReportFigure("counting", "Errors in counting", "slices", plot_counting),
    ReportFigure("risk-coverage", "Risk and coverage", "confidence", plot_risk_coverage),
    ReportFigure("calibration", "Calibration", "confidence", plot_calibration),
    ReportFigure(
        "confusions", "Expected and predicted answers", "errors", plot_confusions, in_scores=True
    ),
    ReportFigure(
        "data-funnel",
        "From the archive to the test questions",
        "data",
        plot_funnel,
        dvc_plot=DvcPlot(
            x="n",
            y="step",
            x_label="images, then questions",
            y_label="what is left",
            template="bar_horizontal",
        ),
    ),
    ReportFigure(
        "product-types",
        "Product types before and after balancing",
        "data",
        plot_product_types,
        dvc_plot=DvcPlot(
            x="balanced",
            y="product_type",
            x_label="rows after balancing (one per image)",
            y_label="product type",
            template="bar_horizontal",
        ),
    ),
    ReportFigure(
        "training-loss",
        "Training loss",
        "training",
        plot_training_loss,
        dvc_plot=DvcPlot(
            x="step",
            y="loss",
            x_label="optimiser step",
            y_label="loss in nats per token",
            template="smooth",
        ),
    ),
    ReportFigure(
        "learning-curve",
        "Validation accuracy",
        "training",
        plot_learning_curve,
        dvc_plot=DvcPlot(
            x="epoch",
            y="validation_accuracy",
            x_label="epoch",
            y_label="accuracy on the rows held out from training",
        ),
    ),
    ReportFigure(
        "metric-correlation",
        "Correlation of the metrics",
        "metrics",
        plot_correlation,
        in_scores=True,
    ),
    ReportFigure(
        "metric-distributions",
        "Distribution of the metrics",
        "metrics",
        plot_distributions,
        in_scores=True,
    ),
)


def draw_figures(
    results: Results, figures: tuple[ReportFigure, ...] = FIGURE_REGISTER
) -> Iterator[tuple[ReportFigure, Drawing]]:
    """Yield each of the figures that the run has data for."""
    with report_style():
        for figure in figures:
            drawing = figure.plot(results)
            if drawing is not None:
                add_title(drawing.figure, figure.title, drawing.note)
                yield figure, drawing


def write_figure(name: str, drawing: Drawing, folder: Path) -> Path:
    """Write `<name>.png` and `data/<name>.csv` (6 decimals); return the image's path."""
    path = folder / f"{name}.png"
    with atomic_write(path) as temporary:
        temporary.write_bytes(png(drawing.figure))
    write_table(drawing.data.round(6), folder / "data" / f"{name}.csv")
    return path
