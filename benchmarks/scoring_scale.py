"""Scoring of millions of question rows: processor seconds, memory, and how they grow.

    python benchmarks/scoring_scale.py                     # 0.75, 1.5 and 3 M rows
    python benchmarks/scoring_scale.py --rows 50000 100000
    python benchmarks/scoring_scale.py --rows 3000000 --keep build/scoring

A fifth of the made-up rows is for testing, three rows a picture; the four blind models, one that
answers all rows and the fine-tuned one. The stage `evaluate` runs in a process of its own, imports
included. The two neural scorers are stand-ins that give every pair a number: what they take is
measured by text_metrics.py. MLflow's part is left out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from helpers import many_questions
from helpers.evaluated import BLIND, SKILL, workspace
from helpers.parts import Parts, measured, print_parts, timed
from helpers.stand_ins import stand_in_scorers

MODELS = ("baselines/blip", "finetuned")


def run_evaluate() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.core.stage import pin_threads
    from abo_vqa.evaluation import results, scoring
    from abo_vqa.stages import evaluate

    parts: Parts = {}
    for module, names in (
        (evaluate, ("_read_tables", "evaluate", "result_tables")),
        (results, ("describe_rows", "join_predictions", "score_test_rows", "compare_models",
                   "slice_accuracy", "metric_intervals", "f1_by_answer_length", "calibrate",
                   "yes_no_recall", "counting_errors", "score_all_rows", "mean_metrics")),
        (scoring, ("distinct_pairs", "score_pairs")),
    ):  # fmt: skip
        for name in names:
            setattr(module, name, timed(parts, getattr(module, name)))
    config = load_config()
    pin_threads(config.threads)
    with stand_in_scorers():
        evaluate.run(config)
    print_parts(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[750_000, 1_500_000, 3_000_000])
    parser.add_argument("--keep", type=Path, help="make the workspaces here and leave them")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        run_evaluate()
        return
    lines = []
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = (args.keep or Path(name)) / str(rows)
            if not (folder / "data").is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                skill = BLIND | {model: SKILL[model] for model in MODELS}
                workspace(folder, many_questions.table(rows), skill, jpegs=0)
            lines.append(f"{rows:9,} rows: {measured(__file__, 'evaluate', folder)}")
            print(lines[-1], flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
