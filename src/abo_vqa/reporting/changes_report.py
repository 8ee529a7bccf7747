"""What changed between two states, for the terminal and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from abo_vqa.core.paths import FINETUNED_MODELS
from abo_vqa.core.units import format_level
from abo_vqa.evaluation.changes import CHANGES, Changes, ModelChange
from abo_vqa.reporting.formatting import count, interval_text, p_value, percent, points
from abo_vqa.reporting.markdown import markdown_table
from abo_vqa.reporting.text_table import align_columns

_WIDEST = 40  # characters of a question or an answer


@dataclass(frozen=True)
class ChangesPage:
    """What a page about changes shows.

    Attributes:
        title: the two states.
        settings: name → value before and after.
        accuracies: model → accuracy before and after, None where it has none; from metrics.json.
        changes: the answers; None where they can't be read.
        problem: why they can't be read.
        confidence: of the intervals.
        listed: how many changed rows are listed at most.
        chosen: the models whose rows are listed.
    """

    title: str
    settings: Mapping[str, tuple[Any, Any]]
    accuracies: Mapping[str, tuple[float | None, float | None]]
    changes: Changes | None
    problem: str
    confidence: float
    listed: int
    chosen: Sequence[str]

    def tables(self) -> Iterator[tuple[ModelChange, pd.DataFrame]]:
        """Walk through the models whose changed rows are listed.

        Yields:
            The model, and its first changed rows.
        """
        for model in self.changes.models if self.changes else ():
            if model.model in self.chosen and self.listed:
                yield model, _some_of_each(model.changed, self.listed)


def _some_of_each(changed: pd.DataFrame, listed: int) -> pd.DataFrame:
    """At most so many rows, as many of each kind as there are, in their order."""
    turns = changed.groupby("change").cumcount() * len(CHANGES) + changed["change"].map(
        CHANGES.index
    )
    return changed.loc[turns.nsmallest(listed).index.sort_values()]


def changes_text(page: ChangesPage) -> str:
    """Lay out the comparison for the terminal.

    Args:
        page: what it shows.
    """
    lines = [page.title]
    lines += [f"  {name}: {old} → {new}" for name, (old, new) in page.settings.items()]
    header, rows = _accuracy_cells(page)
    if rows:
        lines += ["", *align_columns(header, rows)]
    lines += ["", *changes_findings(page)]
    for model, table in page.tables():
        lines += ["", _rows_title(model, table)]
        cells = [[_cut(str(cell)) for cell in row] for row in _row_cells(table)]
        lines += align_columns(_ROW_HEADER, cells, left=range(len(_ROW_HEADER)))
    return "\n".join(lines)


def changes_markdown(page: ChangesPage) -> str:
    """Lay out the comparison as Markdown, for a pull request's comment.

    What comes from the data stands in code spans, where nothing is a link, a mention or a tag.

    Args:
        page: what it shows.
    """
    parts = [f"## {page.title}"]
    if page.settings:
        values = [[_code(name), *map(_code, pair)] for name, pair in page.settings.items()]
        parts.append(markdown_table(("setting", "before", "now"), values, numbers=False))
    header, cells = _accuracy_cells(page)
    if cells:
        parts.append(markdown_table(header, [[_code(model), *rest] for model, *rest in cells]))
    parts.append("\n".join(f"- {line}" for line in changes_findings(page)))
    if chart := _chart(page.accuracies):
        parts.append(chart)
    for model, table in page.tables():
        rows = [[row[0], *map(_code, row[1:])] for row in _row_cells(table)]
        body = markdown_table(_ROW_HEADER, rows, numbers=False)
        title = _rows_title(model, table)
        parts.append(f"<details><summary>{title}</summary>\n\n{body}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def changes_findings(page: ChangesPage) -> list[str]:
    """Say in a line each what is certain, and what can't be known.

    Args:
        page: the comparison.
    """
    changes = page.changes
    if changes is None:
        return [f"Only metrics are compared: {page.problem}"]
    if not changes.rows:
        return [
            f"No test question is in both ({count(changes.rows_base)} before, "
            f"{count(changes.rows_head)} now): accuracies are of different questions."
        ]
    lines = [f"Compared on {count(changes.rows)} test questions about {changes.images} images."]
    if max(changes.rows_base, changes.rows_head) > changes.rows:
        lines.append(
            f"{count(changes.rows_base - changes.rows)} questions were only tested before, "
            f"{count(changes.rows_head - changes.rows)} only now: they aren't counted here, but "
            "in reports/metrics.json."
        )
    lines += map(_verdict, changes.models)
    if changes.models:
        lines.append(
            f"Intervals ({format_level(page.confidence)}) and p (permutation test, Holm's "
            "adjustment) count the noise of images only."
        )
    if any(model.model in FINETUNED_MODELS for model in changes.models):
        lines.append(
            "Another seed of the training changes answers, too: `abo-vqa seeds` measures by how "
            "much."
        )
    for what, models in (
        ("Same answers", changes.unchanged),
        ("New", changes.added),
        ("Not tested any more", changes.removed),
    ):
        if models:
            lines.append(f"{what}: {', '.join(models)}.")
    return lines


def _verdict(model: ModelChange) -> str:
    difference = model.head - model.base
    if model.significant:
        return f"{model.model} is {'better' if difference > 0 else 'worse'}."
    return f"{model.model}: no difference that exceeds the noise."


def _accuracy_cells(page: ChangesPage) -> tuple[Sequence[str], list[list[str]]]:
    """Accuracies of the models that changed, on the questions that both states have."""
    if page.changes is None:
        rows = [
            [model, percent(old), percent(new), points(_difference(old, new))]
            for model, (old, new) in page.accuracies.items()
            if old != new
        ]
        return ("model", "before", "now", "difference"), rows
    header = ("model", "before", "now", "difference", "interval", "p", *CHANGES[:2], "other")
    return header, [
        [
            change.model,
            percent(change.base),
            f"{percent(change.head)} ({interval_text(change.head_interval)})",
            points(change.head - change.base),
            interval_text(change.interval, signed=True),
            p_value(change.p_adjusted),
            *(count(change.count(kind)) for kind in CHANGES[:2]),
            count(sum(change.count(kind) for kind in CHANGES[2:])),
        ]
        for change in page.changes.models
    ]


def _difference(old: float | None, new: float | None) -> float | None:
    return None if old is None or new is None else new - old


_ROW_HEADER = ("", "question", "answer", "before", "now", "image")


def _row_cells(table: pd.DataFrame) -> list[list[str]]:
    before, now = (
        table[f"prediction_{side}"].where(table[f"error_{side}"] == "", "(failed)")
        for side in ("base", "head")
    )
    columns = (table["change"], table["question"], table["answer"], before, now)
    return [list(row) for row in zip(*columns, table["image_path"], strict=True)]


def _rows_title(model: ModelChange, table: pd.DataFrame) -> str:
    changed = len(model.changed)
    title = f"{model.model}: {count(changed)} of {count(len(model.rows))} answers changed"
    return title if changed == len(table) else f"{title}, {len(table)} of them here"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _code(value: object) -> str:
    """A code span that ends where it should."""
    text = " ".join(str(value).replace("`", "'").split())
    return f"`{_cut(text)}`" if text else "(empty)"


def _chart(accuracies: Mapping[str, tuple[float | None, float | None]]) -> str:
    """A chart that GitHub draws: bars for now, a line for before; "" if nothing differs."""
    both = {
        model: (old, new)
        for model, (old, new) in accuracies.items()
        if old is not None and new is not None
    }
    if all(old == new for old, new in both.values()):
        return ""
    both = dict(sorted(both.items(), key=lambda item: -item[1][1]))
    names = ", ".join(f'"{model}"' for model in both)
    series = ([f"{100 * pair[side]:.1f}" for pair in both.values()] for side in (0, 1))
    before, now = (", ".join(values) for values in series)
    return "\n".join(
        [
            "```mermaid",
            "xychart-beta horizontal",
            '    title "Accuracy in percent: now (bars), before (line)"',
            f"    x-axis [{names}]",
            '    y-axis "accuracy" 0 --> 100',
            f"    bar [{now}]",
            f"    line [{before}]",
            "```",
        ]
    )
