"""Stage `generate`: balanced table + pictures → data/vqa.csv, exactly N pairs per image."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from abo_vqa.annotate.annotators import run_annotator
from abo_vqa.annotate.counts import (
    count_reasons,
    generation_counts,
    generation_summary,
    numeric_metrics,
)
from abo_vqa.annotate.inputs import make_gate, read_products
from abo_vqa.annotate.review import PAGE_PAIRS
from abo_vqa.config import Config, load_config
from abo_vqa.core.errors import UserError
from abo_vqa.core.json_files import write_results
from abo_vqa.core.paths import GENERATION, REJECTS, VQA
from abo_vqa.core.stage import execute
from abo_vqa.core.summary import Log, Summary, no_log
from abo_vqa.core.tables import write_table
from abo_vqa.stages._generate_options import run_with_options


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/vqa.csv, data/rejects.csv and data/generate.json.

    Args:
        config: the settings.
        log: receives the running cost of a paid generation.

    Raises:
        UserError: Not one image got all its pairs.
    """
    products = read_products()
    gate = make_gate(config)
    annotations = run_annotator(config, products, gate, log)
    if not annotations.rows:
        raise UserError(
            f"not one of {len(products):,} images got its {gate.questions} pairs: "
            f"{count_reasons(annotations.dropped)}. "
            f"The rejects: {count_reasons([row['reason'] for row in annotations.rejects])}."
        )
    counts = generation_counts(config, annotations)
    columns = ["image_path", "question", "answer", "reason"]
    write_table(pd.DataFrame(annotations.rejects, columns=columns), REJECTS)
    write_results(counts, GENERATION)
    write_table(pd.DataFrame(annotations.rows), VQA)
    return Summary(
        message="\n".join(
            [*annotations.notes, generation_summary(counts), *counts["corpus"]["warnings"]]
        ),
        metrics={**numeric_metrics(counts), **annotations.metrics},
        datasets={"generated": VQA},
        artifacts=(REJECTS,),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the word's parser.
    """
    parser.description = (
        "Without options: the pipeline's stage, configured by params.yaml. The options prepare or "
        "share a paid generation, or have people check its result."
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="images left, requests, tokens, price, hours"
    )
    parser.add_argument(
        "--count-tokens",
        action="store_true",
        help="with --dry-run: have the vendor count the tokens of five images (free, needs a key)",
    )
    parser.add_argument("--shard", metavar="I/N", help="ask only for the I-th of N parts")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="JOURNAL", help="take over the journals of shards"
    )
    parser.add_argument(
        "--retry-days",
        action="store_true",
        help="try keys again whose daily quota was spent, e.g. because it was raised",
    )
    parser.add_argument(
        "--retry-refused",
        action="store_true",
        help="ask again about images that were refused, failed, or left out by --drop-failing",
    )
    parser.add_argument(
        "--drop-failing",
        action="store_true",
        help="go on however many images fail alike, and leave them out for good",
    )
    parser.add_argument(
        "--review", type=Path, metavar="PAGE", help="write a page for people to check pairs"
    )
    parser.add_argument("--sample", type=int, help=f"pairs on the page ({PAGE_PAIRS})")


def command(args: argparse.Namespace) -> int:
    """Run the stage, or what the options ask for.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    options = (args.dry_run, args.shard, args.merge, args.review)
    once = (args.retry_days, args.retry_refused, args.drop_failing)
    if args.count_tokens and not args.dry_run:
        raise UserError("--count-tokens belongs to --dry-run.")
    if args.sample is not None and not args.review:
        raise UserError("--sample belongs to --review PAGE.")
    if args.sample is not None and args.sample < 1:
        raise UserError(f"--sample {args.sample}: at least 1.")
    if not any((*options, *once)):
        print(execute("generate", run, load_config()))
        return 0
    return run_with_options(args)
