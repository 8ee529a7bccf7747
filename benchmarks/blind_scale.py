"""The blind baselines on millions of question rows: processor seconds, memory, how they grow.

    python benchmarks/blind_scale.py           # 0.75, 1.5 and 3 M rows, four fifths to fit on
    python benchmarks/blind_scale.py --rows 50000 100000

The stage `baseline --model blind` reads the made-up rows, fits the four baselines and answers all
of them, in a process of its own, imports included. The n-gram model's fit takes as many products
with the Hessian as the data ask for: what one takes is printed, too.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

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
    for name in ("unify_spelling", "answer_blind_rows"):
        setattr(blind, name, timed(parts, getattr(blind, name)))
    for name, fit in list(baselines.VARIANTS.items()):
        baselines.VARIANTS[name] = timed(parts, fit)
    ngrams.limit_pairs = timed(parts, ngrams.limit_pairs)
    products = []
    start, product = ngrams.Softmax.__init__, ngrams.Softmax.hessian

    def sized(self, features, counts, strength) -> None:  # type: ignore[no-untyped-def]
        print(f"  fitted: {features.shape[0]:,} questions, {features.shape[1]:,} words, "
              f"{counts.shape[1]:,} answers")  # fmt: skip
        start(self, features, counts, strength)

    def counted(self, flat, direction):  # type: ignore[no-untyped-def]
        products.append(1)
        return timed(parts, product)(self, flat, direction)

    ngrams.Softmax.__init__ = sized  # type: ignore[method-assign]
    ngrams.Softmax.hessian = counted  # type: ignore[method-assign]
    config = load_config()
    pin_threads(config.threads)
    print(baseline.run(config, model="blind").message)
    print_parts(parts)
    each = parts.get("hessian", [0.0])[0] / max(1, len(products))
    print(f"  {len(products)} products with the Hessian, {each:.2f} processor seconds each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[750_000, 1_500_000, 3_000_000])
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        run_blind()
        return
    lines = []
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as name:
            workspace(Path(name), many_questions.table(rows), {}, jpegs=0)
            lines.append(f"{rows:9,} rows: {measured(__file__, 'blind', Path(name))}")
            print(lines[-1], flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
