"""Stage `curate`: listings and pictures → one row a picture that questions can be asked about.

`rules.py` says which rows are good enough; here large product types are thinned out, pictures are
looked at, and everything that is dropped is counted: images = sum(dropped) + balanced.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.archive import Archive, ImageError, open_archive
from abo_vqa.config import Config, Curate
from abo_vqa.errors import UserError
from abo_vqa.io import progress, refuse_unwritable, write_results, write_table
from abo_vqa.listings import Broken
from abo_vqa.rules import EXTRAS, FIELDS, RULES, clean_table, no_collection
from abo_vqa.stage import Log, Summary, execute, no_log

BALANCED, TYPES, FUNNEL = (
    Path("data/balanced.csv"),
    Path("data/types.csv"),
    Path("data/funnel.json"),
)
HASHES = ("image_sha1", "phash")
COLUMNS = ("path", *FIELDS, "image_id", "item_id", "image_sha1", "phash", *EXTRAS)
STUDY = Curate(
    cap=5000,
    language="first_en",
    required=FIELDS,
    excluded_images=("518Dk4F0zZL", "719hoe+0vIL", "71Qbh8wmhnL"),
    balance="cap",
    temperature=0.5,
)
STUDY_SEED = 42


def allowances(sizes: pd.Series, settings: Curate) -> pd.Series:
    """Rows to keep of each product type.

    Args:
        sizes: rows a type; with `balance: cap` each keeps at most the cap. With `temperature` types
            up to the median size m stay whole and a larger one of n rows keeps m (n/m)^t, at most
            the cap: t = 1 changes nothing, towards 0 all come down to the median.
    """
    keep = sizes.clip(upper=settings.cap)
    if settings.balance == "temperature" and len(sizes):
        middle = float(sizes.median())
        flat = np.ceil(middle * (sizes / middle) ** settings.temperature).astype(int)
        keep = np.minimum(keep, flat.where(sizes > middle, sizes))
    return keep


def balanced(table: pd.DataFrame, settings: Curate, seed: int) -> pd.DataFrame:
    """Thin out large product types: of each, `DataFrame.sample(k, random_state=seed)`."""
    keep = allowances(table["product_type"].value_counts(), settings)
    parts = [
        rows.sample(int(keep[kind]), random_state=seed) if keep[kind] < len(rows) else rows
        for kind, rows in table.groupby("product_type", sort=True)
    ]
    if not parts:
        return table
    return pd.concat(parts).sort_values("path", ignore_index=True)


def evenness(kinds: pd.Series) -> dict[str, float]:
    """How even a distribution over product types is.

    Returns:
        largest_share: of the most frequent type; effective_types: e^entropy, the number of equally
        frequent types with the same entropy (Hill number of order 1).
    """
    share = kinds.value_counts(normalize=True).to_numpy()
    if not len(share):
        return {"largest_share": 0.0, "effective_types": 0.0}
    entropy = float(-(share * np.log(share)).sum())
    return {
        "largest_share": round(float(share.max()), 6),
        "effective_types": round(float(np.exp(entropy)), 3),
    }


def inspect(archive: Archive, path: str) -> tuple[str, str, str]:
    """SHA-1 and perceptual hash of a picture, or "", "" and what is wrong with it."""
    from abo_vqa.pictures import Unreadable, phash, sha1

    try:
        data = archive.read(path)
        return sha1(data), phash(data, path), ""
    except ImageError as error:
        return "", "", error.reason
    except Unreadable as error:
        return "", "", str(error)


def with_hashes(table: pd.DataFrame, archive: Archive) -> tuple[pd.DataFrame, Counter[str]]:
    """Add image_sha1 and phash; drop rows whose picture can't be read, counted by reason."""
    paths = progress(table["path"].tolist(), total=len(table), desc="pictures", unit="image")
    seen = [inspect(archive, path) for path in paths]
    hashes = pd.DataFrame(seen, columns=[*HASHES, "reason"], dtype=object)
    fine = (hashes["reason"] == "").to_numpy()
    reasons = Counter(
        "picture_" + reason.split(",")[0].replace(" ", "_").lower()
        for reason in hashes.loc[~fine, "reason"]
    )
    table = table.assign(**{name: hashes[name].to_numpy() for name in HASHES})[fine]
    return table[list(COLUMNS)].reset_index(drop=True), reasons


@dataclass(frozen=True)
class Result:
    """balanced: the table; types: product_type, clean, balanced; funnel: counts; broken: lines."""

    balanced: pd.DataFrame
    types: pd.DataFrame
    funnel: dict[str, Any]
    broken: Broken


def curate(raw: Path, settings: Curate, seed: int, *, pictures: bool = True) -> Result:
    """From the archives in `raw` to the balanced table.

    Args:
        pictures: hash every kept picture and drop those that can't be read; False leaves the hashes
            empty and pictures unseen, as the study does.
    Raises:
        UserError: the archives are missing or damaged, or no row is left.
    """
    with open_archive(raw) as archive:
        with no_collection():
            table, funnel, broken = clean_table(archive, settings)
        kept = balanced(table, settings, seed)
        funnel["dropped"]["over_cap"] = len(table) - len(kept)
        if pictures:
            kept, reasons = with_hashes(kept, archive)
            funnel["dropped"].update(reasons)
        else:
            kept = kept.assign(image_sha1="", phash="")[list(COLUMNS)]
    funnel["dropped"] = dict(sorted((k, n) for k, n in funnel["dropped"].items() if n))
    if kept.empty:
        why = ", ".join(f"{reason} {n:,}" for reason, n in funnel["dropped"].items())
        raise UserError(
            f"no row is left of {funnel['images']:,} images in {raw}. Dropped: {why or 'none'}."
        )
    funnel["balanced"] = len(kept)
    funnel["types"] = int(kept["product_type"].nunique())
    funnel["balance"] = {
        f"{name}_{when}": value
        for when, rows in (("before", table), ("after", kept))
        for name, value in evenness(rows["product_type"]).items()
    }
    return Result(kept, type_counts(table, kept), funnel, broken)


def type_counts(table: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """product_type, clean, balanced: rows a type before and after, the largest first."""
    before, after = (t["product_type"].value_counts() for t in (table, kept))
    counts = pd.DataFrame({"clean": before, "balanced": after.reindex(before.index, fill_value=0)})
    counts = counts.rename_axis("product_type").reset_index()
    return counts.sort_values(["clean", "product_type"], ascending=[False, True], ignore_index=True)


def describe(result: Result) -> str:
    """The funnel for the terminal."""
    funnel = result.funnel
    lines = [
        f"{funnel['images']:,} images → {funnel['with_metadata']:,} with metadata → "
        f"{funnel['clean']:,} clean → {funnel['balanced']:,} balanced, {funnel['types']:,} types"
    ]
    lines += [f"  dropped  {reason:28}{n:>9,}" for reason, n in funnel["dropped"].items()]
    language = funnel["language"]
    lines.append(
        f"  taking any English entry would gain {language['gained_by_any_en']:,} clean rows"
    )
    if result.broken.count:
        lines.append(f"  {result.broken.count:,} line(s) aren't JSON objects, the first:")
        lines += [f"    {line}" for line in result.broken.first]
    return "\n".join(lines)


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/balanced.csv, data/types.csv and data/funnel.json."""
    result = curate(config.data.raw, config.curate, config.seed)
    write_table(result.balanced, BALANCED)
    write_table(result.types, TYPES)
    write_results(result.funnel, FUNNEL)
    numbers = pd.json_normalize(result.funnel, sep="/").iloc[0].to_dict()
    return Summary(
        message=describe(result),
        metrics={str(name): float(value) for name, value in numbers.items()},
        datasets={"balanced": BALANCED},
        artifacts=(FUNNEL, TYPES),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Without options: the pipeline's stage, configured by params.yaml. With --raw and --out: "
        "any folder that holds the two archives or what comes out of them, by the study's rules."
    )
    parser.add_argument("--raw", type=Path, metavar="DIR", help="folder with the archives")
    parser.add_argument("--out", type=Path, metavar="FILE", help="CSV to write")
    parser.add_argument("--cap", type=int, default=STUDY.cap, help="rows a type (%(default)s)")
    parser.add_argument("--seed", type=int, default=STUDY_SEED, help="(%(default)s)")
    parser.add_argument(
        "--language", choices=sorted(RULES), default=STUDY.language, help="(%(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, help="flatten by this exponent, above 0, at most 1"
    )
    parser.add_argument(
        "--no-pictures", action="store_true", help="don't read pictures: no hashes, none dropped"
    )


def command(args: argparse.Namespace) -> int:
    if not args.words:
        return execute("curate", run)
    if not args.raw or not args.out:
        raise UserError(
            "--raw DIR and --out FILE belong together, and the other options need them. "
            "Without any, the stage curates by params.yaml."
        )
    refuse_unwritable(args.out, "the table")
    if args.cap < 1:
        raise UserError(f"--cap {args.cap}: at least 1.")
    update: dict[str, Any] = {"cap": args.cap, "language": args.language}
    if args.temperature is not None:
        if not 0 < args.temperature <= 1:
            raise UserError(f"--temperature {args.temperature}: above 0, at most 1.")
        update |= {"balance": "temperature", "temperature": args.temperature}
    settings = STUDY.model_copy(update=update)
    result = curate(args.raw, settings, args.seed, pictures=not args.no_pictures)
    write_table(result.balanced, args.out)
    print(describe(result))
    return 0
