"""Stage `generate`: balanced table + images → data/generated.csv, exactly N pairs per image."""

from __future__ import annotations

import argparse
from itertools import chain

from abo_vqa.annotate.annotators import run_annotator
from abo_vqa.annotate.corrections import apply_reviews
from abo_vqa.annotate.counts import (
    count_reasons,
    generation_counts,
    generation_summary,
)
from abo_vqa.annotate.draws import DRAWN_COLUMN
from abo_vqa.annotate.inputs import make_quality_filter, read_products, reviews_in_use
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_results
from abo_vqa.core.nested import numeric_metrics
from abo_vqa.core.paths import GENERATED, GENERATION, REJECTS, REVIEWED
from abo_vqa.core.row_list import write_rows
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/generated.csv, data/rejects.csv, data/reviewed.csv and data/generate.json.

    Args:
        config: the settings.
        log: receives the running cost of a paid generation.

    Raises:
        UserError: Not one image got all its pairs.
    """
    products = read_products()
    reviews = reviews_in_use(config)
    quality_filter = make_quality_filter(config, reviews)
    annotations = run_annotator(config, products, quality_filter, log)
    if not annotations.rows:
        raise UserError(
            f"none of the {len(products):,} images got its {quality_filter.questions} pairs: "
            f"{count_reasons(annotations.dropped)}. "
            f"The rejects: {count_reasons(row['reason'] for row in annotations.rejects)}."
        )
    review_counts = apply_reviews(annotations, reviews)
    counts = generation_counts(config, annotations, review_counts)
    columns = ["image_path", "question", "answer", "reason"]
    write_rows(chain(annotations.rejects, annotations.replaced), REJECTS, columns)
    write_rows(annotations.reviewed, REVIEWED, [*columns[:-1], "wrong", DRAWN_COLUMN])
    write_results(counts, GENERATION)
    write_rows(annotations.rows, GENERATED)
    return Summary(
        message="\n".join(
            [*annotations.notes, generation_summary(counts), *counts["corpus"]["warnings"]]
        ),
        metrics={**numeric_metrics(counts), **annotations.metrics},
        datasets={"generated": GENERATED},
        artifacts=(REJECTS,),
    )


def command(_args: argparse.Namespace) -> int:
    """Run the stage.

    Returns:
        The exit code.
    """
    print(execute("generate", run, load_config()))
    return 0
