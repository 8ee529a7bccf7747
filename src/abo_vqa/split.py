"""Stage `split`: a VQA table → train and test that share no group.

`group: image` is the published study's split, row for row and in its order. `near-duplicate` (the
default) also keeps products, identical pictures and look-alikes on one side, and the product types'
shares alike where the groups allow.
"""

from __future__ import annotations

import argparse
import warnings
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from abo_vqa import audit
from abo_vqa.config import Config
from abo_vqa.errors import UserError
from abo_vqa.groups import NEEDS, bundles, group_rows
from abo_vqa.io import read_table, write_results, write_table
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    from numpy.typing import NDArray

VQA, TRAIN, TEST = Path("data/vqa.csv"), Path("data/train.csv"), Path("data/test.csv")
AUDIT = Path("data/audit.json")
FROM_BALANCED = ("image_id", "item_id", "product_type", "image_sha1", "phash")
BUNDLE = 0.02  # of all rows: ten bundles fill a test set of a fifth, so shares stay within reach
STUDY_TEST_SIZE, STUDY_SEED = 0.2, 42

Positions = tuple["NDArray[np.int64]", "NDArray[np.int64]"]


def split_rows(
    table: pd.DataFrame, kind: str, test_size: float, seed: int, *, distance: int, stratify: bool
) -> Positions:
    """Choose the rows of train and test.

    Args:
        table: a VQA table with the columns `groups.NEEDS[kind]`.
        test_size: share of the groups (image) or of the rows (else) that goes to test.
        distance: bits of 64 for look-alikes. stratify: keep product types' shares (not for image).
    Returns:
        positions of train's rows and of test's, each in the order to write them.
    Raises:
        UserError: columns are missing, or there are too few groups for two sides.
    """
    if table.empty:
        raise UserError("the VQA table has no rows: nothing to split.")
    if kind == "image":
        sides = study_split(table, test_size, seed)
    else:
        groups = group_rows(table, kind, distance)
        if kind == "near-duplicate":
            limit = max(1, round(BUNDLE * len(table)))
            groups = pd.factorize(bundles(groups, table["phash"], distance, limit))[0]
        kinds = table["product_type"] if stratify and "product_type" in table else None
        sides = grouped_split(groups, kinds, test_size, seed)
    if not all(map(len, sides)):
        raise UserError(
            f"the table's groups by {kind} are too few or too large for a test set of "
            f"{test_size:.0%}. Use a smaller kind of group, or more data."
        )
    return sides


def study_split(table: pd.DataFrame, test_size: float, seed: int) -> Positions:
    """The study's split: whole images drawn by scikit-learn, written in the order drawn."""
    from sklearn.model_selection import train_test_split

    images = list(table.groupby("image_path", sort=True).indices.values())
    if len(images) < 2:
        raise UserError(f"{len(images)} image(s) can't be split into train and test.")
    train, test = train_test_split(images, test_size=test_size, random_state=seed)
    return np.concatenate(train), np.concatenate(test)


def grouped_split(
    groups: NDArray[np.int64], kinds: pd.Series | None, test_size: float, seed: int
) -> Positions:
    """Whole groups dealt into equal folds, some of which are test; rows keep their order."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = int(groups.max()) + 1
    if count < 2:
        raise UserError("all rows are one group: there is nothing to put into the test set.")
    wanted, folds = fold_count(test_size)
    if count < folds:
        wanted, folds = min(count - 1, max(1, round(test_size * count))), count
    labels = np.zeros(len(groups), dtype=np.int64)
    if kinds is not None:
        labels = pd.factorize(kinds)[0]
        if np.bincount(labels).max() < folds:  # no type has a row for every fold
            labels = np.zeros(len(groups), dtype=np.int64)
    with warnings.catch_warnings():
        # Rare product types have fewer rows than there are folds: they go where they fit.
        warnings.filterwarnings("ignore", message="The least populated class")
        dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        dealt = [rows for _, rows in dealer.split(labels, labels, groups)]
    # A group larger than a fold overfills its own: leave that one to train.
    dealt.sort(key=lambda rows: abs(len(rows) - len(groups) / folds))
    test = np.sort(np.concatenate(dealt[:wanted]))
    train = np.setdiff1d(np.arange(len(groups)), test, assume_unique=True)
    return train, test


def fold_count(test_size: float) -> tuple[int, int]:
    """A test share as (folds for test, folds in all), to the nearest fraction below 1/20."""
    share = Fraction(test_size).limit_denominator(20)
    if share in (0, 1):
        return (1, round(1 / test_size)) if share == 0 else (19, 20)
    return share.numerator, share.denominator


def with_provenance(table: pd.DataFrame, balanced: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of the balanced table that a plain VQA table lacks; "" where unknown."""
    added = [name for name in FROM_BALANCED if name in balanced and name not in table]
    known = (
        balanced[["path", *added]].drop_duplicates("path").rename(columns={"path": "image_path"})
    )
    return table.merge(known, on="image_path", how="left").fillna(dict.fromkeys(added, ""))


def write_split(
    table: pd.DataFrame, sides: Positions, train: Path, test: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write both sides with `row_id`, the row's position in the whole table."""
    numbered = table.assign(row_id=np.arange(len(table)))
    left, right = (numbered.iloc[rows] for rows in sides)
    write_table(left, train)
    write_table(right, test)
    return left, right


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/train.csv, data/test.csv and data/audit.json; fail if a group straddles."""
    settings = config.split
    table = read_table(VQA, audit.COLUMNS)
    sides = split_rows(
        table,
        settings.group,
        settings.test_size,
        config.seed,
        distance=settings.phash_distance,
        stratify=settings.stratify,
    )
    train, test = write_split(table, sides, TRAIN, TEST)
    found = audit.audit(train, test, settings.group, settings.phash_distance)
    write_results(found, AUDIT)
    audit.refuse_leaks(found, settings.group)
    numbers = pd.json_normalize(found, sep="/").iloc[0].to_dict()
    return Summary(
        message=audit.describe(found, settings.group),
        metrics={str(name): float(value) for name, value in numbers.items()},
        datasets={"training": TRAIN, "testing": TEST},
        artifacts=(AUDIT,),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Without options: the pipeline's stage, configured by params.yaml. With --vqa and --out: "
        "any table with the columns image_path, question, answer."
    )
    parser.add_argument("--vqa", type=Path, metavar="FILE", help="table to split")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for train.csv and test.csv")
    parser.add_argument(
        "--group", choices=list(NEEDS), default="near-duplicate", help="(%(default)s)"
    )
    parser.add_argument(
        "--balanced",
        type=Path,
        metavar="FILE",
        help="balanced table with product ids and picture hashes, for tables without them",
    )
    parser.add_argument("--test-size", type=float, default=STUDY_TEST_SIZE, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=STUDY_SEED, help="(%(default)s)")
    parser.add_argument(
        "--distance", type=int, default=audit.PHASH_DISTANCE, help="bits of 64 (%(default)s)"
    )
    parser.add_argument("--no-stratify", action="store_true", help="ignore product types")


def command(args: argparse.Namespace) -> int:
    if not args.vqa and not args.out:
        return execute("split", run)
    if not args.vqa or not args.out:
        raise UserError("--vqa FILE and --out DIR belong together.")
    if not 0 < args.test_size < 1:
        raise UserError(f"--test-size {args.test_size}: between 0 and 1.")
    if not 0 <= args.distance <= 32:
        raise UserError(f"--distance {args.distance}: 0 to 32 of 64 bits.")
    table = read_table(args.vqa, audit.COLUMNS)
    if args.balanced:
        table = with_provenance(table, read_table(args.balanced, ["path"]))
    sides = split_rows(
        table,
        args.group,
        args.test_size,
        args.seed,
        distance=args.distance,
        stratify=not args.no_stratify,
    )
    train, test = write_split(table, sides, args.out / "train.csv", args.out / "test.csv")
    found = audit.audit(train, test, args.group, args.distance)
    print(audit.describe(found, args.group))
    audit.refuse_leaks(found, args.group)
    return 0
