"""What it takes to measure a filter's blind accuracy on as many pairs as the study has.

    python benchmarks/filter_effects.py

The stage `verify` measures it for each row of the table of effects: if any set is large, by one fit
that answers the questions about a fifth of the images, else by five that answer all. Prints blind
accuracy, its 95% interval and processor seconds of both, on made-up questions of the study's
statistics.
"""

from __future__ import annotations

import time
from functools import partial

from helpers import study_questions

from abo_vqa.annotate.verification import blind_accuracy
from abo_vqa.core.config import load_config
from abo_vqa.data.normalise import same_answer
from abo_vqa.evaluation.intervals import clustered_wilson_interval


def main() -> None:
    config = load_config()
    rows = study_questions.ROWS
    table = study_questions.table(rows, max(1, round(rows / 3.08)))
    interval, seconds = partial(clustered_wilson_interval, confidence=0.95), {}
    for name, limit in (("a fifth", blind_accuracy.ALL_ROWS), ("all", rows)):
        blind_accuracy.ALL_ROWS = limit
        start = time.process_time()
        measure = blind_accuracy.BlindMeasure.of(config, same_answer, interval, {"all": table})
        measured = measure.measure(table)
        seconds[name] = time.process_time() - start
        print(
            f"{name:8} of {rows:,} pairs: blind accuracy {measured['blind_accuracy']} "
            f"{measured['blind_interval']}, {seconds[name]:.0f} processor seconds",
            flush=True,
        )
    print(f"all / a fifth: {seconds['all'] / seconds['a fifth']:.1f} times as many")


if __name__ == "__main__":
    main()
