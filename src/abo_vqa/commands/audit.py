"""`abo-vqa audit`: check any train/test pair of tables for leaks."""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.data.audit import (
    PHASH_DISTANCE,
    VQA_COLUMNS,
    audit_split,
    describe_audit,
    refuse_leaks,
    strictest_group,
)
from abo_vqa.data.columns import add_columns_option, read_columns
from abo_vqa.data.groups import GROUP_COLUMNS
from abo_vqa.data.provenance import add_provenance_options, complete_table


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
    parser.add_argument(
        "--distance",
        type=int,
        default=PHASH_DISTANCE,
        help="bits of 64 within which images are near-duplicates (%(default)s)",
    )
    add_provenance_options(parser)
    add_columns_option(parser)


def command(args: argparse.Namespace) -> int:
    """Compare the two sides, print what they share, and fail if there is a leak.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if not 0 <= args.distance <= 32:
        raise UserError(f"--distance must be from 0 to 32 (of 64 bits), found {args.distance}.")
    read = [read_columns(p, VQA_COLUMNS, chosen=args.columns) for p in (args.train, args.test)]
    (train, train_notes), (test, test_notes) = (
        complete_table(c, args.balanced, args.images) for c in read
    )
    print("\n".join([*train_notes, *test_notes]))
    kind = args.group or strictest_group(train.columns.intersection(test.columns))
    report = audit_split(train, test, kind, args.distance)
    print(describe_audit(report, kind))
    refuse_leaks(report, kind, args.distance)
    return 0
