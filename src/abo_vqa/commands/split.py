"""`abo-vqa split` with options: a leak-free split of any table of questions."""

from __future__ import annotations

import argparse
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import refuse_overwriting
from abo_vqa.core.tables import write_table
from abo_vqa.data import audit
from abo_vqa.data.audit_text import describe_audit, share_warnings
from abo_vqa.data.columns import add_columns_option, read_columns
from abo_vqa.data.groups import GROUP_COLUMNS, require_columns
from abo_vqa.data.provenance import add_provenance_options, complete_table
from abo_vqa.data.similarity_options import (
    add_similarity_options,
    comparable_table,
    similarity_rule,
)
from abo_vqa.data.similarity_rule import ComparedTable
from abo_vqa.data.splitting import split_rows, take_sides
from abo_vqa.data.study import STUDY_SEED, STUDY_TEST_SIZE


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.description = (
        "Without options: the pipeline's stage, configured by params.yaml. With --vqa and --out: "
        "any table with the columns image_path, question, answer."
    )
    parser.add_argument("--vqa", type=Path, metavar="FILE", help="table to split")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for train.csv and test.csv")
    parser.add_argument(
        "--group", choices=list(GROUP_COLUMNS), default="near-duplicate", help="(%(default)s)"
    )
    add_provenance_options(parser)
    parser.add_argument("--test-size", type=float, default=STUDY_TEST_SIZE, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=STUDY_SEED, help="(%(default)s)")
    add_similarity_options(parser)
    parser.add_argument("--no-stratify", action="store_true", help="ignore product types")
    add_columns_option(parser)


def command(args: argparse.Namespace) -> int:
    """Do what the options ask for.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if not args.vqa or not args.out:
        raise UserError(
            "--vqa FILE and --out DIR must be given together, and the other options require them. "
            "Without any, the stage splits data/vqa.csv by params.yaml."
        )
    if not 0 < args.test_size < 1:
        raise UserError(f"--test-size must be between 0 and 1, found {args.test_size}.")
    if not 0 <= args.seed < 2**32:
        raise UserError(f"--seed must be from 0 to {2**32 - 1:,}, found {args.seed}.")
    rule = similarity_rule(args)
    outputs = (args.out / "train.csv", args.out / "test.csv")
    refuse_overwriting(filter(None, (args.vqa, args.balanced)), outputs)
    read = read_columns(args.vqa, audit.VQA_COLUMNS, chosen=args.columns)
    table, notes = complete_table(read, args.balanced, args.images, names=args.group == "variant")
    table, coverage = comparable_table(table, rule)
    print("\n".join([*notes, *coverage]))
    require_columns(table, args.group)
    compared = ComparedTable.of([table], rule, audit.VQA_COLUMNS)
    sides = split_rows(
        compared,
        args.group,
        args.test_size,
        args.seed,
        rule=rule,
        stratify=not args.no_stratify,
    )
    report = audit.audit_sides(compared, sides, args.group)
    missed = share_warnings(report, args.group, args.test_size)
    print("\n".join([describe_audit(report, args.group), *missed]))
    audit.refuse_leaks(report, args.group, rule.options())
    for side, path in zip(take_sides(table, sides), outputs, strict=True):
        write_table(side, path)
    return 0
