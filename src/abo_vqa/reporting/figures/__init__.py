"""Every figure of the report, in order; each is drawn from the results and kept as data too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from abo_vqa.core.files import atomic_write
from abo_vqa.core.tables import write_table
from abo_vqa.reporting.figures import answers, confidence, data, metrics, models, training
from abo_vqa.reporting.inputs import Results
from abo_vqa.reporting.style import Drawing, headline, png, styled, svg

# A figure whose data a run doesn't have (no training, no confidences) is None and left out.
FIGURES: tuple[Callable[[Results], Drawing | None], ...] = (
    models.per_model,
    models.gain_over_blind,
    models.paired_differences,
    models.study_comparison,
    models.clip_regimes,
    answers.question_types,
    answers.answer_length,
    answers.confusions,
    answers.counting,
    confidence.calibration,
    confidence.risk_coverage,
    metrics.correlation,
    metrics.distributions,
    data.funnel,
    data.product_types,
    training.loss,
    training.learning_curve,
)


def draw(results: Results) -> Iterable[Drawing]:
    """Each figure that this run has data for, one at a time."""
    with styled():
        for figure in FIGURES:
            drawing = figure(results)
            if drawing is not None:
                headline(drawing)
                yield drawing


def save(drawing: Drawing, folder: Path) -> str:
    """Write `<name>.png` and `data/<name>.csv` (6 decimals); return the figure as SVG."""
    write(drawing, folder)
    return svg(drawing.figure, drawing.name)


def write(drawing: Drawing, folder: Path) -> None:
    """Write `<name>.png` and `data/<name>.csv`, nothing for a page."""
    with atomic_write(folder / f"{drawing.name}.png") as temporary:
        temporary.write_bytes(png(drawing.figure))
    write_table(drawing.data.round(6), folder / "data" / f"{drawing.name}.csv")
