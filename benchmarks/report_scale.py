"""The report of many test rows: processor seconds, memory and page sizes, part by part.

    python benchmarks/report_scale.py                              # 100,000 test rows × 12 models
    python benchmarks/report_scale.py --rows 10000 --models 6
    python benchmarks/report_scale.py --keep build/large           # leaves the workspace there
    python benchmarks/report_scale.py --keep build/large --browse  # and times the page in Chromium

Made-up questions, predictions and pictures go through the stages' own code, `evaluate` and then
`report`, each in a process of its own, imports included. The two neural scorers are stand-ins that
give every pair a number: what they take is measured by text_metrics.py. MLflow's part is left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock
from zlib import crc32

from helpers import many_questions
from helpers.evaluated import SKILL, workspace

TEST_SHARE = 5  # one row of so many is for testing


class StandIn:
    """A neural scorer's numbers without its network: the same for the same pair."""

    def __init__(self, *_: object) -> None:
        pass

    def signature(self) -> str:
        return "a stand-in"

    def published_baseline(self) -> None:
        return None

    def baseline(self, _references: object) -> float:
        return 0.5


class BertStandIn(StandIn):
    def score(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[float]]:
        return {pair: [share(pair, k) for k in range(3)] for pair in pairs}


class BartStandIn(StandIn):
    def score(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
        return {pair: -8 * share(pair, 3) for pair in pairs}


def share(pair: tuple[str, str], k: int) -> float:
    return crc32(f"{pair}{k}".encode()) / 2**32


def run_evaluate() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.core.stage import pin_threads
    from abo_vqa.evaluation import bartscore, bertscore
    from abo_vqa.stages.evaluate import run

    config = load_config()
    pin_threads(config.threads)
    with (
        mock.patch.object(bertscore, "BertScore", BertStandIn),
        mock.patch.object(bartscore, "BartScore", BartStandIn),
    ):
        run(config)


def timed(parts: dict[str, list[float]], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its processor and wall seconds added to `parts`."""

    def call(*args: Any, **options: Any) -> Any:
        used, wall = time.process_time(), time.perf_counter()
        try:
            result = function(*args, **options)
            return list(result) if hasattr(result, "__next__") else result
        finally:
            part = parts.setdefault(function.__name__, [0.0, 0.0])
            part[0] += time.process_time() - used
            part[1] += time.perf_counter() - wall

    return call


def run_report() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.reporting import writing
    from abo_vqa.stages import report

    names = ("draw_figures", "write_figure", "page_figure", "_write_thumbnails", "error_cards",
             "report_context", "render_html", "_write_browser")  # fmt: skip
    parts: dict[str, list[float]] = {}
    for name in names:
        if hasattr(writing, name):
            setattr(writing, name, timed(parts, getattr(writing, name)))
    for name in ("load_results", "render_cards"):
        setattr(report, name, timed(parts, getattr(report, name)))
    print(report.run(load_config()).message)
    for name, (used, wall) in parts.items():
        print(f"  {name:16} {used:6.1f} processor seconds, {wall:6.1f} s")


STAGES: dict[str, Callable[[], None]] = {"evaluate": run_evaluate, "report": run_report}


def measured(stage: str, folder: Path) -> str:
    """One line: what a stage took in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--stage", stage]
    process = subprocess.Popen(command, cwd=folder)
    _, status, used = os.wait4(process.pid, 0)  # this process's use, not all children's
    if status:
        raise SystemExit(f"{stage} failed")
    return (
        f"{stage:9} {used.ru_utime + used.ru_stime:6.1f} processor seconds, "
        f"{time.perf_counter() - start:6.1f} s, {used.ru_maxrss / 1024:6.0f} MB"
    )


def sizes(reports: Path) -> str:
    parts = []
    for path in sorted(reports.iterdir()):
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        count = "" if path.is_file() else f" in {len(files):,} files"
        parts.append(f"{path.name} {sum(p.stat().st_size for p in files) / 1e6:.1f} MB{count}")
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="test rows")
    parser.add_argument("--models", type=int, default=12, help="at least 5: four are blind")
    parser.add_argument("--keep", type=Path, help="make the workspace here and leave it")
    parser.add_argument("--only", choices=list(STAGES), help="run one stage of a kept workspace")
    parser.add_argument("--browse", action="store_true", help="only time a kept page in Chromium")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        STAGES[args.stage]()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        if not (folder / "data").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            blind_last = sorted(SKILL, key=lambda name: "blind" not in name and name != "finetuned")
            skill = {name: SKILL[name] for name in blind_last[: args.models]}
            workspace(folder, many_questions.table(TEST_SHARE * args.rows), skill, jpegs=200)
        if not args.browse:
            lines = [measured(stage, folder) for stage in STAGES if args.only in (None, stage)]
            print("\n".join(lines))
            print(sizes(folder / "reports"))
        if args.browse:
            from helpers.browsing import time_page

            time_page(folder / "reports" / "browser.html")


if __name__ == "__main__":
    main()
