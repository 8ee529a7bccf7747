"""`abo-vqa generate` with options: estimates, shards, pages for reviewers, one-off choices."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from abo_vqa.annotate.estimate import estimate
from abo_vqa.annotate.inputs import make_quality_filter, read_products, reviews_in_use
from abo_vqa.annotate.merging import merge_journals
from abo_vqa.annotate.model_run import RunOptions, annotate
from abo_vqa.annotate.quality_filter import QualityFilter
from abo_vqa.annotate.review import write_review_pages
from abo_vqa.annotate.review_sample import OVERLAP, PAGE_PAIRS, ReviewPlan, filter_note
from abo_vqa.annotate.sharding import in_shard, parse_shard
from abo_vqa.core.config import Config, load_config
from abo_vqa.core.errors import RetryLaterError, UserError
from abo_vqa.core.local_annotator import LOCAL
from abo_vqa.core.paths import BALANCED, GENERATED
from abo_vqa.core.summary import no_log
from abo_vqa.data.pairs import Product
from abo_vqa.remote.budget import describe_cost


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.description = (
        "Without options: the pipeline's stage, configured by params.yaml. The options prepare or "
        "share a paid generation, or have people check its result."
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="estimate the remaining images, requests, tokens, cost and time; send nothing",
    )
    parser.add_argument(
        "--count-tokens",
        action="store_true",
        help="with --dry-run: have the vendor count the tokens of five images (free, needs a key)",
    )
    parser.add_argument("--shard", metavar="I/N", help="ask only for the I-th of N parts")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="JOURNAL", help="merge the journals of shards"
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
        help="continue even if many images fail in the same way, and exclude those permanently",
    )
    parser.add_argument(
        "--review", type=Path, metavar="PAGE", help="write a page for people to check pairs"
    )
    _review_options(parser)


def _review_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sample", type=int, metavar="N", help=f"pairs on a page ({PAGE_PAIRS})")
    parser.add_argument(
        "--raters", type=int, metavar="N", help="with --review: a page for each of N people"
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="SHARE",
        help=f"with --raters: share of a page's pairs that everybody is shown ({OVERLAP})",
    )
    parser.add_argument(
        "--vqa",
        type=Path,
        metavar="TABLE",
        help=f"with --review: another table with images of the archive ({GENERATED})",
    )


def command(args: argparse.Namespace) -> int:
    """Do what the options ask for.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if args.count_tokens and not args.dry_run:
        raise UserError("--count-tokens belongs to --dry-run.")
    for name in ("sample", "raters", "overlap", "vqa"):
        if getattr(args, name) is not None and not args.review:
            raise UserError(f"--{name} belongs to --review PAGE.")
    return _review(load_config(), args) if args.review else _run_with_options(args)


def _review(config: Config, args: argparse.Namespace) -> int:
    """Write pages for reviewers.

    Raises:
        UserError: an option's value is out of range.
    """
    for name in ("sample", "raters"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: at least 1.")
    if args.overlap is not None and not args.raters:
        raise UserError("--overlap belongs to --raters N.")
    if args.overlap is not None and not 0 <= args.overlap <= 1:
        raise UserError(f"--overlap {args.overlap:g}: a share from 0 to 1.")
    plan = ReviewPlan(
        PAGE_PAIRS if args.sample is None else args.sample,
        args.raters or 1,
        OVERLAP if args.overlap is None else args.overlap,
    )
    table = args.vqa or GENERATED
    written = write_review_pages(table, config, plan, args.review, reviews_in_use(config))
    if written.left_out:
        print(f"{written.left_out:,} images that people have reviewed are left out.")
    common = f", {written.common:,} of them on all pages" if len(written.pairs) > 1 else ""
    for page, pairs in written.pairs.items():
        print(f"{page}: {pairs:,} pairs to check{common}.")
    print(f"What people save there goes to {config.generate.review or 'generate.review'}.")
    if note := filter_note(table):
        print(note)
    return 0


def _run_with_options(args: argparse.Namespace) -> int:
    """Merge, estimate or annotate."""
    config = load_config()
    if config.generate.annotator in ("offline", "file"):
        raise UserError(
            f"generate.annotator is {config.generate.annotator!r}: it costs nothing and needs no "
            "shards. --dry-run, --shard, --merge, --retry-days, --retry-refused and "
            "--drop-failing are for models."
        )
    if config.generate.annotator == LOCAL and (args.count_tokens or args.retry_days):
        raise UserError("--count-tokens and --retry-days are for services; a local model has none.")
    products, quality_filter = read_products(), make_quality_filter(config)
    if args.merge:
        return _merge(config, products, quality_filter, args.merge)
    if args.dry_run:
        shard = parse_shard(args.shard) if args.shard else None
        selected = [product for product in products if in_shard(product["image_path"], shard)]
        if config.generate.annotator == LOCAL:
            # With it torch is loaded, which the other annotators spare.
            from abo_vqa.annotate.local.dry_run import describe_remaining

            print(describe_remaining(config, selected, quality_filter))
        else:
            print(estimate(config, selected, quality_filter, count=args.count_tokens))
        return 0
    return _annotate(config, products, quality_filter, args)


def _annotate(
    config: Config,
    products: Sequence[Product],
    quality_filter: QualityFilter,
    args: argparse.Namespace,
) -> int:
    """Run without writing the table: for a shard, or with a one-off choice."""
    shard = parse_shard(args.shard) if args.shard else None
    options = RunOptions(args.retry_days, args.retry_refused, args.drop_failing)
    result = annotate(config, products, quality_filter, no_log, shard, options)
    complete = sum(task.is_complete for task in result.tasks)
    spent = ""
    if config.generate.annotator != LOCAL:
        spent = f"; spent so far: {describe_cost(result.cost, config.generate)}"
    print(f"{complete:,} of {len(result.tasks):,} images have all their pairs{spent}.")
    if shard:
        print(f"Next, with the journals of all shards: abo-vqa generate --merge {result.journal} …")
    else:
        print("`dvc repro generate` writes the table.")
    return 0


def _merge(
    config: Config,
    products: Sequence[Product],
    quality_filter: QualityFilter,
    files: Sequence[Path],
) -> int:
    """Merge journals and report overlaps and gaps.

    Raises:
        RetryLaterError: some images are still open.
    """
    report = merge_journals(config, products, quality_filter, files)
    done = report.images - len(report.open)
    print(f"{len(files)} journals; {done:,} of {report.images:,} images are done")
    if report.overlap:
        example = report.overlap[0]
        print(f"overlap: {len(report.overlap):,} images were paid for twice, e.g. {example}")
    if report.unknown:
        print(f"{len(report.unknown):,} images aren't in {BALANCED}; they are left out")
    if report.open:
        raise RetryLaterError(
            f"gap: {len(report.open):,} images are still open, e.g. {report.open[0]}. Merge the "
            "missing shards, or let `dvc repro generate` annotate them."
        )
    print("No gaps. `dvc repro generate` writes the table.")
    return 0
