"""All experiments of a search: as a table, in words, as Markdown and CSV, and as a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from abo_vqa.core.files import atomic_write
from abo_vqa.core.tables import write_table
from abo_vqa.core.units import format_level
from abo_vqa.evaluation.settings_comparison import SettingsComparison, SettingsPair
from abo_vqa.evaluation.sweep import Sweep, SweepRow, seed_noise
from abo_vqa.reporting.ceiling import ceiling_caption
from abo_vqa.reporting.formatting import (
    count,
    enumeration,
    interval_text,
    p_value,
    percent,
    points,
)
from abo_vqa.reporting.markdown import markdown_table
from abo_vqa.reporting.text_table import align_columns

_DASH = "–"
_LISTED = 10  # differences in the terminal; differences.csv has all


def sweep_text(sweep: Sweep, confidence: float, ceiling: Mapping[str, Any] | None = None) -> str:
    """Lay out the table, what it means, and the differences that exceed the noise.

    Args:
        sweep: the experiments.
        confidence: of the intervals, e.g. 0.95.
        ceiling: how much of the test rows can be right at most; None if nobody knows.
    """
    header, rows = _cells(sweep)
    lines = align_columns(header, rows, left=(header.index("interval"), len(header) - 1))
    certain = [pair for pair in _pairs(sweep) if pair.distinguishable]
    listed = [f"  {_pair_text(pair)}" for pair in certain[:_LISTED]]
    if len(certain) > _LISTED:
        listed.append(f"  … and {len(certain) - _LISTED} more, in differences.csv")
    return "\n".join([*lines, "", *sweep_findings(sweep, confidence, ceiling), *listed])


def sweep_markdown(
    sweep: Sweep, confidence: float, ceiling: Mapping[str, Any] | None = None
) -> str:
    """Lay out the same as Markdown, with all differences.

    Args:
        sweep: the experiments.
        confidence: of the intervals, e.g. 0.95.
        ceiling: how much of the test rows can be right at most; None if nobody knows.
    """
    header, rows = _cells(sweep)
    findings = "\n".join(f"- {line}" for line in sweep_findings(sweep, confidence, ceiling))
    pairs = [
        (
            f"{pair.a} − {pair.b}",
            points(pair.difference.value),
            interval_text((pair.difference.low, pair.difference.high), signed=True),
            p_value(pair.p_adjusted),
            "yes" if pair.distinguishable else "no",
        )
        for pair in _pairs(sweep)
    ]
    columns = ("difference in test accuracy", "points", "interval", "p, Holm", "exceeds the noise")
    parts = [markdown_table(header, rows), findings]
    return "\n\n".join([*parts, markdown_table(columns, pairs)] if pairs else parts) + "\n"


def sweep_findings(
    sweep: Sweep, confidence: float, ceiling: Mapping[str, Any] | None = None
) -> list[str]:
    """Say which ranks and differences are certain, and against which noise, in a line each.

    Args:
        sweep: the experiments.
        confidence: of the intervals, e.g. 0.95.
        ceiling: how much of the test rows can be right at most; None if nobody knows.
    """
    if not sweep.comparisons:
        return ["No finished experiment has test scores: nothing to compare."]
    lines = list(_ranks_in_words(sweep.comparisons[0]))
    noise = seed_noise(sweep)
    pairs = _pairs(sweep)
    if pairs:
        certain = sum(pair.distinguishable for pair in pairs)
        source = "images and seeds" if noise else "images"
        lines.append(
            f"{certain} of {len(pairs)} differences exceed the noise of {source} "
            f"({format_level(confidence)}, by Holm's adjustment)."
        )
    lines.append(_noise_in_words(noise))
    rows, images = sweep.test_rows[0]
    lines.append(f"Test: {count(rows)} questions about {count(images)} images.")
    if ceiling:
        lines.append(ceiling_caption(ceiling))
    others = sum(len(comparison.scores) for comparison in sweep.comparisons[1:])
    if others:
        lines.append(
            f"{others} settings were tested on other questions (another seed of the split, other "
            "data): they have no rank and aren't compared with these."
        )
    return lines


def _ranks_in_words(comparison: SettingsComparison) -> Iterator[str]:
    """Which ranks are certain."""
    ties = [f"{first}–{last}" for first, last in comparison.ties]
    if ties:
        yield f"Ranks {enumeration(ties)} can't be told apart."
    elif len(comparison.scores) > 1:
        yield "All ranks can be told apart."


def _noise_in_words(noise: tuple[float, int, int] | None) -> str:
    if noise is None:
        return (
            "No settings were trained with several seeds: the noise of seeds isn't known, and a "
            "difference may be nothing else. `abo-vqa seeds --n 5` measures it."
        )
    deviation, runs, freedom = noise
    few = "" if freedom > 1 else " Two runs are few: with 3 or more, p-values can be trusted."
    return (
        f"Accuracy's sd between seeds: {100 * deviation:.1f} points, from {runs} runs of settings "
        f"that have several; those with a single run are taken to have it too.{few}"
    )


def _pairs(sweep: Sweep) -> list[SettingsPair]:
    """The pairs that are ranked, the largest differences first."""
    pairs = sweep.comparisons[0].pairs if sweep.comparisons else []
    return sorted(pairs, key=lambda pair: -pair.difference.value)


def _pair_text(pair: SettingsPair) -> str:
    interval = interval_text((pair.difference.low, pair.difference.high), signed=True)
    return f"{pair.a} − {pair.b}: {points(pair.difference.value)} ({interval})"


def _cells(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """The table's header and rows, as people read them."""
    header = ["rank", *map(_short_name, sweep.changed), "seeds", "validation", "test", "interval"]
    header += ["seconds", "experiments"]
    rows = []
    for record in sweep_frame(sweep).to_dict("records"):
        ranked = not pd.isna(record["rank_best"])
        row = [_rank(record["rank_best"], record["rank_worst"]) if ranked else _DASH]
        row += [_setting(record[name]) for name in sweep.changed]
        row += [str(record["seeds"])]
        row += [_with_sd(record[name], record[f"{name}_sd"]) for name in ("validation", "test")]
        row += [interval_text((record["low"], record["high"])), count(record["seconds"])]
        state = "" if record["state"] == "finished" else f"{record['state']}: "
        names = record["experiments"].split()
        row += [state + (names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}")]
        rows.append(row)
    return header, rows


def _rank(best: float, worst: float) -> str:
    return f"{best:.0f}" if best == worst else f"{best:.0f}–{worst:.0f}"


def _setting(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return _DASH
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short_name(setting: str) -> str:
    return setting.removeprefix("lora.")


def _with_sd(mean: float, sd: float) -> str:
    return percent(mean) if pd.isna(sd) else f"{percent(mean)} ± {100 * sd:.1f}"


def sweep_frame(sweep: Sweep) -> pd.DataFrame:
    """Return the table as numbers: one row per settings, NaN where something isn't known.

    Args:
        sweep: the experiments.
    """
    return pd.DataFrame([_record(sweep, row) for row in sweep.rows])


def _record(sweep: Sweep, row: SweepRow) -> dict[str, object]:
    comparison = None if row.group is None else sweep.comparisons[row.group]
    best, worst = comparison.ranks[row.name] if comparison and row.group == 0 else (None, None)
    estimate = comparison.estimates[row.name] if comparison else None
    numbers: dict[str, float | None] = {"rank_best": best, "rank_worst": worst}
    for name in ("validation", "test"):
        numbers |= {name: row.mean(name), f"{name}_sd": row.sd(name)}
    numbers |= {"low": estimate.low if estimate else None, "seconds": row.mean("seconds")}
    numbers["high"] = estimate.high if estimate else None
    return {
        "name": row.name,
        "state": row.state,
        **row.settings,
        "seeds": len(row.runs),
        **{name: float("nan") if value is None else value for name, value in numbers.items()},
        "experiments": " ".join(run.experiment.name for run in row.runs),
    }


def _differences(pairs: Sequence[SettingsPair]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "a": pair.a,
                "b": pair.b,
                "difference": pair.difference.value,
                "low": pair.difference.low,
                "high": pair.difference.high,
                "p": pair.difference.p,
                "p_adjusted": pair.p_adjusted,
                "exceeds_noise": pair.distinguishable,
            }
            for pair in pairs
        ]
    )


def write_sweep(
    sweep: Sweep, confidence: float, folder: Path, ceiling: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write sweep.md, sweep.csv and, with two settings or more, differences.csv.

    Args:
        sweep: the experiments.
        confidence: of the intervals, e.g. 0.95.
        folder: where to.
        ceiling: how much of the test rows can be right at most; None if nobody knows.

    Returns:
        The files.
    """
    page = folder / "sweep.md"
    with atomic_write(page) as temporary:
        temporary.write_text(sweep_markdown(sweep, confidence, ceiling), encoding="utf-8")
    files = [page, write_table(sweep_frame(sweep).round(6), folder / "sweep.csv")]
    if pairs := _pairs(sweep):
        files.append(write_table(_differences(pairs).round(6), folder / "differences.csv"))
    return files
