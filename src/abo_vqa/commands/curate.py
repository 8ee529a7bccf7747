"""`abo-vqa curate` with options: the study's rules on any folder of archives."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import refuse_unwritable
from abo_vqa.core.remote_pin import url_or_path
from abo_vqa.core.tables import write_table
from abo_vqa.data.curation import curate, describe_curation
from abo_vqa.data.rules import LANGUAGE_RULES
from abo_vqa.data.study import STUDY_CONFIG, STUDY_SEED


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options.

    Args:
        parser: the command's parser.
    """
    parser.description = (
        "Without options: the pipeline's stage, configured by params.yaml. With --raw and --out: "
        "any folder with the two archives, or their extracted contents, by the study's rules."
    )
    parser.add_argument(
        "--raw",
        type=url_or_path,
        metavar="DIR",
        help="folder with the archives, or its URL (s3://…)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="CSV to write")
    parser.add_argument(
        "--cap",
        type=int,
        default=STUDY_CONFIG.cap,
        help="maximum rows per product type (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=STUDY_SEED, help="(%(default)s)")
    parser.add_argument(
        "--language",
        choices=sorted(LANGUAGE_RULES),
        default=STUDY_CONFIG.language,
        help="(%(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        help="balance product types with this exponent (greater than 0, at most 1)",
    )
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="don't read images: hashes stay empty and unreadable images aren't dropped",
    )


def command(args: argparse.Namespace) -> int:
    """Do what the options ask for.

    Args:
        args: the options.

    Returns:
        The exit code.
    """
    if not args.raw or not args.out:
        raise UserError(
            "--raw DIR and --out FILE must be given together, and the other options require them. "
            "Without any, the stage curates by params.yaml."
        )
    refuse_unwritable(args.out, "the table")
    if args.cap < 1:
        raise UserError(f"--cap must be at least 1, found {args.cap}.")
    update: dict[str, Any] = {"cap": args.cap, "language": args.language}
    if args.temperature is not None:
        if not 0 < args.temperature <= 1:
            raise UserError(
                f"--temperature must be above 0 and at most 1, found {args.temperature}."
            )
        update |= {"balance": "temperature", "temperature": args.temperature}
    settings = STUDY_CONFIG.model_copy(update=update)
    result = curate(args.raw, settings, args.seed, with_hashes=not args.no_pictures)
    write_table(result.balanced, args.out)
    print(describe_curation(result, args.language))
    return 0
