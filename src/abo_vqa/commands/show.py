"""`abo-vqa show`: the results of the last run on one screen, and where its pages are."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import BROWSER, EVALUATION, METRICS, REPORT
from abo_vqa.core.scratch import project_root
from abo_vqa.reporting.words import label, percent, points, span

_PAGES = {"report": REPORT, "browser": BROWSER}


def _result_lines(
    metrics: Mapping[str, Mapping[str, float]], evaluation: Mapping[str, Any]
) -> list[str]:
    """A table of at most 100 columns: every model's accuracy, its interval, its gain over blind.

    Args:
        metrics: what metrics.json holds; evaluation: what evaluation.json holds.
    """
    rows = next(iter(metrics.values()))["n"]
    lines = [f"{'model':16}{'accuracy':>8}   {'interval':14}{'gain over blind':>15}"]
    for model in sorted(metrics, key=lambda name: -metrics[name]["accuracy"]):
        found = metrics[model]
        bounds = span(evaluation["intervals"][model]["accuracy"])
        gain = points(found["gain_over_blind"])
        best = ", the best blind one" if model == evaluation["best_blind"] else ""
        lines.append(
            f"{model:16}{percent(found['accuracy']):>8}   {bounds:14}{gain:>15}"
            f"   {label(model)}{best}"
        )
    return [*lines, f"{rows:,} test questions", f"interval: {evaluation['signature']['intervals']}"]


def read(path: Path) -> Any:
    """A result file.

    Raises:
        UserError: it isn't there yet, or is broken.
    """
    if not path.is_file():
        raise UserError(
            f"no results to show: {path.absolute()} isn't there. In the repository, `make repro` "
            "makes them (so does `dvc repro`)."
        )
    return read_json(path)


def arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def command(args: argparse.Namespace) -> int:
    os.chdir(project_root())
    print("\n".join(_result_lines(read(METRICS), read(EVALUATION))))
    for name, page in _PAGES.items():
        if page.is_file():
            print(f"{name + ':':9}{page.resolve().as_uri()}")
    return 0
