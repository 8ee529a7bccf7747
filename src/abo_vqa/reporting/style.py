"""How figures look: Okabe–Ito colours, few lines, the same bytes every time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from abo_vqa.reporting.fonts import use_fonts_with_all_characters

# Okabe & Ito (2008), "Color Universal Design": told apart with any common colour blindness.
BLUE, SKY, _GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
VERMILION, _PURPLE, _BLACK = "#D55E00", "#CC79A7", "#000000"
COLOR_CYCLE = (BLUE, ORANGE, _GREEN, _PURPLE, SKY, VERMILION, _BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, MUTED, RULE, _GRAY = "#22272e", "#5c6570", "#d8dde3", "#9aa3ad"
KIND_COLORS = {"finetuned": VERMILION, "zero-shot": BLUE, "blind": _GRAY}
_KIND_LABELS = {"finetuned": "fine-tuned", "zero-shot": "zero-shot", "blind": "blind (no image)"}
_WIDTH = 7.4  # inches: the report's text column
DPI = 150
# Vector figures take the page's font; PNGs the one that matplotlib ships, equal on every machine.
_FONT = re.compile(r"(font(?:-family)?: *(?:[\w.]+ )*)'DejaVu Sans'[^;\"]*")
_PAGE_FONT = r"\g<1>system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", flags=re.DOTALL)

_RC_PARAMS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # no search for the place: no figure has ticks on top
    "axes.labelsize": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#e9ecf0",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    "axes.unicode_minus": True,
    "text.parse_math": False,  # an answer may contain dollar signs
}


@dataclass(frozen=True)
class Drawing:
    """What a plot function returns: a figure and what a page prints around it.

    Attributes:
        note: sample size and intervals in a few words, shown beside the title.
        caption: how to read the figure.
        data: the numbers drawn, as a tidy table.
        figure: the matplotlib figure.
    """

    note: str
    caption: str
    data: pd.DataFrame
    figure: Figure


@contextmanager
def report_style() -> Iterator[None]:
    """Run matplotlib with the report's settings, whatever the user's are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC_PARAMS)
        yield


def new_figure(
    height: float, columns: int = 1, rows: int = 1, **kwargs: Any
) -> tuple[Figure, np.ndarray]:
    """Make an empty figure of the report's width, without pyplot's global state.

    Args:
        height: in inches.
        columns: of axes.
        rows: of axes.
        **kwargs: for `Figure.subplots`.

    Returns:
        The figure and its axes as an array of shape [rows, columns].
    """
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(_WIDTH, height), dpi=DPI, layout=layout)
    axes: np.ndarray = figure.subplots(rows, columns, squeeze=False, **kwargs)
    return figure, axes


def add_title(figure: Figure, title: str, note: str = "") -> None:
    """Write title and note onto a figure: a PNG is passed on without its caption."""
    # The blanks keep the title and the note apart.
    figure.suptitle(f"{title}   " if note else title, x=0.008, ha="left", size=11, weight="bold")
    if note:
        figure.text(0.992, 0.985, note, ha="right", va="top", size=8.5, color=MUTED)


def png(figure: Figure) -> bytes:
    """Encode a figure as PNG, without software name or date: equal figures are equal bytes.

    The layout is computed once and then frozen, for the SVG as well. `Figure.savefig` would draw
    everything twice.
    """
    use_fonts_with_all_characters(figure)
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    figure.set_layout_engine("none")
    return buffer.getvalue()


def svg(figure: Figure, salt: str) -> str:
    """Encode a figure as SVG for a page: the page's font, deterministic ids, no date.

    Args:
        figure: one that `png` has laid out.
        salt: what the ids are derived from, different for each figure of a page.
    """
    buffer = BytesIO()
    omitted = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.hashsalt": salt}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=omitted)
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    return _FONT.sub(_PAGE_FONT, _METADATA.sub("", text))


def percent_axis(axis: Axis) -> None:
    """Label an axis of shares in percent."""
    axis.set_major_formatter(PercentFormatter(1, decimals=0))


def hide_spines(ax: Axes, keep: str = "") -> None:
    """Hide all spines but those named in `keep` (e.g. "left bottom")."""
    for side, spine in ax.spines.items():
        spine.set_visible(side in keep.split())


def hide_unused(axes: np.ndarray, used: int) -> None:
    """Hide the axes of a grid after the first `used`."""
    for ax in list(axes.flat)[used:]:
        ax.set_visible(False)


def horizontal_axis_labels(ax: Axes, labels: Sequence[str], **kwargs: Any) -> None:
    """Label the rows of a horizontal chart, the first one on top."""
    ax.set_yticks(range(len(labels)), labels, **kwargs)
    ax.set_ylim(len(labels) - 0.4, -0.6)


def heatmap_cell(ax: Axes, x: int, y: int, text: str, **kwargs: Any) -> None:
    """Write into a heatmap's cell. The layout ignores the text: it can't extend beyond the cell."""
    ax.text(x + 0.5, y + 0.5, text, ha="center", va="center", in_layout=False, **kwargs)


def heatmap_axes(ax: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Label a heatmap's columns and rows, the first row on top."""
    ax.set_xticks([i + 0.5 for i in range(len(columns))], columns, rotation=40, ha="right")
    ax.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    ax.invert_yaxis()
    hide_spines(ax)


def colorbar(figure: Figure, ax: Axes, mesh: QuadMesh, text: str, **kwargs: Any) -> Axis:
    """Add a colour scale to the right of a heatmap; return its axis."""
    bar = figure.colorbar(mesh, ax=ax, shrink=0.6, **kwargs)
    bar.set_label(text, color=MUTED)
    bar.outline.set_visible(False)
    axis: Axis = bar.ax.yaxis
    return axis


def kind_legend(target: Figure | Axes, kinds: Sequence[str], **kwargs: Any) -> None:
    """Add a legend of the colours of the kinds of models."""
    handles: list[Artist] = [
        Line2D([], [], marker="o", linestyle="", color=KIND_COLORS[kind], label=_KIND_LABELS[kind])
        for kind in kinds
    ]
    target.legend(handles=handles, **kwargs)
