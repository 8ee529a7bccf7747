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
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers import many_questions
from helpers.evaluated import SKILL, workspace
from helpers.parts import Parts, measured, print_parts, timed
from helpers.stand_ins import stand_in_scorers

TEST_SHARE = 5  # one row of so many is for testing


def run_evaluate() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.core.stage import pin_threads
    from abo_vqa.stages.evaluate import run

    config = load_config()
    pin_threads(config.threads)
    with stand_in_scorers():
        run(config)


def run_report() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.reporting import writing
    from abo_vqa.stages import report

    names = ("draw_figures", "write_figure", "page_figure", "_write_thumbnails", "error_cards",
             "report_context", "render_html", "_write_browser")  # fmt: skip
    parts: Parts = {}
    for name in names:
        if hasattr(writing, name):
            setattr(writing, name, timed(parts, getattr(writing, name)))
    for name in ("load_results", "render_cards"):
        setattr(report, name, timed(parts, getattr(report, name)))
    print(report.run(load_config()).message)
    print_parts(parts)


STAGES: dict[str, Callable[[], None]] = {"evaluate": run_evaluate, "report": run_report}


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
            lines = [
                measured(__file__, stage, folder) for stage in STAGES if args.only in (None, stage)
            ]
            print("\n".join(lines))
            print(sizes(folder / "reports"))
        if args.browse:
            from helpers.browsing import time_page

            time_page(folder / "reports" / "browser.html")


if __name__ == "__main__":
    main()
