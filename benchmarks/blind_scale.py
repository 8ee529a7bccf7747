"""The blind baselines on millions of question rows: processor seconds, memory, how they grow.

    python benchmarks/blind_scale.py           # 0.75, 1.5 and 3 M rows, four fifths to fit on
    python benchmarks/blind_scale.py --rows 50000 100000

The stage `baseline --model blind` reads the made-up rows, fits the four baselines and answers all
of them, in a process of its own, imports included. The processor seconds of a row are compared with
those of the smallest size.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers import many_questions
from helpers.evaluated import workspace
from helpers.parts import Parts, measured, print_parts, timed


def run_blind() -> None:
    from abo_vqa.core.config import load_config
    from abo_vqa.core.stage import pin_threads
    from abo_vqa.models.answering import blind
    from abo_vqa.models.blind import baselines, ngrams
    from abo_vqa.stages import baseline

    parts: Parts = {}
    for name in ("read_table", "write_table"):
        setattr(baseline, name, timed(parts, getattr(baseline, name)))
    for name in ("unify_spelling", "answer_blind_rows"):
        setattr(blind, name, timed(parts, getattr(blind, name)))
    for name, fit in list(baselines.VARIANTS.items()):
        baselines.VARIANTS[name] = timed(parts, fit)
    for kind, name in ((ngrams.Softmax, "minimise"), (ngrams.MinibatchFit, "run")):
        setattr(kind, name, timed(parts, getattr(kind, name)))
    for name in ("Softmax", "MinibatchFit"):
        setattr(ngrams, name, sized(getattr(ngrams, name)))
    config = load_config()
    pin_threads(config.threads)
    print(baseline.run(config, model="blind").message)
    print_parts(parts)


def sized(fit: type) -> Callable[..., Any]:
    """The class of a fit, which prints its size first."""

    def make(features: Any, counts: Any, strength: float) -> Any:
        print(f"  {fit.__name__}: {features.shape[0]:,} questions, {features.shape[1]:,} words, "
              f"{counts.shape[1]:,} answers", flush=True)  # fmt: skip
        return fit(features, counts, strength)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[750_000, 1_500_000, 3_000_000])
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        run_blind()
        return
    lines, first = [], 0.0
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as name:
            workspace(Path(name), many_questions.table(rows), {}, jpegs=0)
            line = measured(__file__, "blind", Path(name))
        each = float(line.split()[1]) / rows
        first = first or each
        lines.append(f"{rows:9,} rows: {line}, a row {each / first:.2f} times as long")
        print(lines[-1], flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
