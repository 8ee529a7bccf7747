"""`abo-vqa audit`: check any train/test pair of tables for leaks."""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.data.audit import VQA_COLUMNS, audit_split, refuse_leaks
from abo_vqa.data.audit_text import describe_audit
from abo_vqa.data.columns import add_columns_option, read_columns
from abo_vqa.data.groups import GROUP_COLUMNS, strictest_group
from abo_vqa.data.provenance import add_provenance_options, complete_table
from abo_vqa.data.similarity_options import (
    add_similarity_options,
    comparable_table,
    similarity_rule,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.add_argument("--train", type=Path, required=True, metavar="FILE")
    parser.add_argument("--test", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--group",
        choices=list(GROUP_COLUMNS),
        help="what mustn't occur in both tables (default: the strictest that the columns allow)",
    )
    add_similarity_options(parser)
    add_provenance_options(parser)
    add_columns_option(parser)


def command(args: argparse.Namespace) -> int:
    """Compare the two sides, print what they share, and fail if there is a leak.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    rule = similarity_rule(args)
    read = [read_columns(p, VQA_COLUMNS, chosen=args.columns) for p in (args.train, args.test)]
    named = args.group == "variant"
    (train, train_notes), (test, test_notes) = (
        complete_table(c, args.balanced, args.images, names=named) for c in read
    )
    train, train_coverage = comparable_table(train, rule)
    test, test_coverage = comparable_table(test, rule)
    print("\n".join([*train_notes, *train_coverage, *test_notes, *test_coverage]))
    kind = args.group or strictest_group(train.columns.intersection(test.columns))
    report = audit_split(train, test, kind, rule)
    print(describe_audit(report, kind))
    refuse_leaks(report, kind, rule.options())
    return 0
