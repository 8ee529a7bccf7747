"""How figures look: Okabe–Ito colours, quiet axes, the same bytes every time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008), "Color Universal Design": told apart with any common colour blindness.
BLUE, SKY, _GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
VERMILION, _PURPLE, _YELLOW, _BLACK = "#D55E00", "#CC79A7", "#F0E442", "#000000"
CYCLE = (BLUE, ORANGE, _GREEN, _PURPLE, SKY, VERMILION, _BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, MUTED, RULE, _BLIND = "#22272e", "#5c6570", "#d8dde3", "#9aa3ad"
KIND = {"finetuned": VERMILION, "zero-shot": BLUE, "blind": _BLIND}
_KIND_NAMES = {"finetuned": "fine-tuned", "zero-shot": "zero-shot", "blind": "blind (no picture)"}
_WIDTH = 7.4  # inches: the report's text column
DPI = 150
# Vector figures take the page's font; PNGs the one matplotlib ships, equal on every machine.
_FONT = re.compile(r"(font(?:-family)?: *(?:[\w.]+ )*)'DejaVu Sans'[^;\"]*")
_PAGE_FONT = r"\g<1>system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
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
    "text.parse_math": False,  # an answer may hold dollars
}


@dataclass(frozen=True)
class Drawing:
    """A figure with what a page needs around it.

    Attributes:
        name: file stem. title: what it shows. note: n and intervals, in a few words.
        caption: how to read it.
        data: the numbers drawn, tidy.
        figure: the matplotlib figure.
    """

    name: str
    title: str
    note: str
    caption: str
    data: pd.DataFrame
    figure: Figure


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib with the report's settings, and nothing of the user's."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def canvas(height: float, columns: int = 1, rows: int = 1, **kwargs: Any) -> tuple[Figure, Any]:
    """An empty figure of the report's width, `height` inches high, without pyplot's global state.

    Returns:
        The figure and its axes as a 2-D array [rows, columns].
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(_WIDTH, height), dpi=DPI, layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def headline(drawing: Drawing) -> None:
    """Write title and sample size onto the figure: a PNG travels without its caption."""
    title = drawing.title if not drawing.note else f"{drawing.title}   "
    drawing.figure.suptitle(title, x=0.008, ha="left", size=11, weight="bold")
    if drawing.note:
        drawing.figure.text(0.992, 0.985, drawing.note, ha="right", va="top", size=8.5, color=MUTED)


def png(figure: Figure) -> bytes:
    """The figure as PNG; no software name or date, so that equal figures are equal bytes.

    The layout is found once and then kept, for the SVG as well. `Figure.savefig` would draw
    everything twice.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from abo_vqa.reporting.glyphs import legible

    legible(figure)
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    figure.set_layout_engine("none")
    return buffer.getvalue()


def svg(figure: Figure, name: str) -> str:
    """The figure as SVG for a page: the page's font, deterministic ids, no date."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = BytesIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    return _FONT.sub(_PAGE_FONT, re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL))


def percent_axis(axis: Any, digits: int = 0) -> None:
    """Shares shown as per cent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1, decimals=digits))


def bare(ax: Axes, keep: str = "") -> None:
    """Leave only the spines named in `keep` ("left bottom")."""
    for side, spine in ax.spines.items():
        spine.set_visible(side in keep.split())


def cell(ax: Axes, x: int, y: int, text: str, **kwargs: Any) -> None:
    """A number in a heatmap's cell (column x, row y). It can't stick out: layout ignores it."""
    ax.text(x + 0.5, y + 0.5, text, ha="center", va="center", in_layout=False, **kwargs)


def heatmap_axes(ax: Axes, columns: list[str], rows: list[str]) -> None:
    """Names at a heatmap's columns and rows, the first row on top."""
    ax.set_xticks([i + 0.5 for i in range(len(columns))], columns, rotation=40, ha="right")
    ax.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    ax.invert_yaxis()
    bare(ax)


def colorbar(figure: Figure, ax: Axes, mesh: Any, text: str, **kwargs: Any) -> Any:
    """A quiet colour scale beside a heatmap; returns its axis."""
    bar = figure.colorbar(mesh, ax=ax, shrink=0.6, **kwargs)
    bar.set_label(text, color=MUTED)
    bar.outline.set_visible(False)
    return bar.ax.yaxis


def kind_legend(target: Any, kinds: list[str], **kwargs: Any) -> None:
    """Which colour is which kind of model."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", color=KIND[k], label=_KIND_NAMES[k]) for k in kinds
    ]
    target.legend(handles=handles, **kwargs)
