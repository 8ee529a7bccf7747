"""`audit`, `evaluate` and `report` at the study's size: processor seconds, peak memory, page sizes.

    python benchmarks/study_size.py                    # after the sample's models are pulled
    python benchmarks/study_size.py --rows 12000 --keep build/study

45,482 made-up rows about 14,777 pictures, split by picture; seven zero-shot models' and the blind
ones' predictions of all rows and the fine-tuned model's of the test rows, right as often as the
study's; noise for pictures. Each stage's own code runs in a process of its own, imports included;
the neural scorers are the sample's small ones, MLflow's part is left out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from helpers import study_questions
from helpers.evaluated import workspace
from helpers.parts import measured


def run_audit() -> None:
    from abo_vqa.cli import main

    main(["audit", "--train", "data/train.csv", "--test", "data/test.csv"])


def run_evaluate() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.core.stage import pin_threads
    from abo_vqa.stages.evaluate import run

    config = load_config()
    pin_threads(config.threads)
    run(config)


def run_report() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.stages.report import run

    print(run(load_config()).message)


STAGES: dict[str, Callable[[], None]] = {
    "audit": run_audit,
    "evaluate": run_evaluate,
    "report": run_report,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=study_questions.ROWS)
    parser.add_argument("--keep", type=Path, help="make the workspace here and leave it")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        STAGES[args.stage]()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        if not (folder / "data").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            pictures = round(args.rows * study_questions.PICTURES / study_questions.ROWS)
            workspace(folder, study_questions.table(args.rows, pictures))
        lines = [measured(__file__, stage, folder) for stage in STAGES]
        pages = [folder / "reports" / page for page in ("report.html", "browser.html")]
        pages += [folder / "reports" / "metrics.json", folder / "reports" / "evaluation.json"]
        print("\n".join(lines))
        print(", ".join(f"{p.name} {p.stat().st_size / 1e6:.1f} MB" for p in pages))


if __name__ == "__main__":
    main()
