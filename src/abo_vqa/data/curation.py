"""From listings and images.csv to the balanced table: one row per image to ask questions about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.core.config import CurateConfig
from abo_vqa.core.errors import UserError
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.image_hashes import HASH_COLUMNS, fill_hashes, hash_images
from abo_vqa.data.listings import BrokenLines
from abo_vqa.data.rules import EXTRAS, FIELDS, clean_table, paused_gc

BALANCED_COLUMNS = ("image_path", *FIELDS, "image_id", "item_id", *HASH_COLUMNS, *EXTRAS)
"""The columns of the balanced table, in order."""


@dataclass(frozen=True)
class CurationResult:
    """What curation makes of the archives.

    Attributes:
        balanced: the table, with `BALANCED_COLUMNS`.
        types: product_type, clean, balanced: rows per type before and after balancing.
        funnel: how many images each step kept and dropped.
        broken: lines of the listings that aren't JSON.
    """

    balanced: pd.DataFrame
    types: pd.DataFrame
    funnel: dict[str, Any]
    broken: BrokenLines


def curate(
    raw: Path, settings: CurateConfig, seed: int, *, with_hashes: bool = True
) -> CurationResult:
    """Make the balanced table from the archives.

    Args:
        raw: the archives' folder.
        settings: the rules.
        seed: random state of the sample that balancing takes.
        with_hashes: hash every image that is kept, and drop those that can't be read. False leaves
            the hashes empty and doesn't open images, as in the study.

    Raises:
        UserError: the archives are missing or damaged, or no row is left.
    """
    with open_archive(raw) as archive:
        with paused_gc():
            table, funnel, broken = clean_table(archive, settings)
        kept = _balance(table, settings, seed)
        funnel["dropped"]["over_cap"] = len(table) - len(kept)
        if with_hashes:
            kept, reasons = _hash_rows(kept, archive)
            funnel["dropped"].update(reasons)
        else:
            kept = fill_hashes(kept, {})[list(BALANCED_COLUMNS)]
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
        for name, value in _evenness(rows["product_type"]).items()
    }
    return CurationResult(kept, _type_counts(table, kept), funnel, broken)


def _balance(table: pd.DataFrame, settings: CurateConfig, seed: int) -> pd.DataFrame:
    """Keep a random sample of each large product type (`DataFrame.sample`)."""
    keep = _type_limits(table["product_type"].value_counts(), settings)
    parts = [
        rows.sample(int(keep[kind]), random_state=seed) if keep[kind] < len(rows) else rows
        for kind, rows in table.groupby("product_type", sort=True)
    ]
    if not parts:
        return table
    return pd.concat(parts).sort_values("image_path", ignore_index=True)


def _type_limits(sizes: pd.Series, settings: CurateConfig) -> pd.Series:
    """Rows to keep of each product type.

    With `balance: cap`, at most the cap. With `temperature`, types up to the median size m stay
    whole and a larger one of n rows keeps m (n/m)^t, at most the cap: t = 1 changes nothing, and
    towards t = 0 all large types come down to the median.

    Args:
        sizes: rows of each type.
        settings: the rules.
    """
    keep = sizes.clip(upper=settings.cap)
    if settings.balance == "temperature" and len(sizes):
        middle = float(sizes.median())
        flat = np.ceil(middle * (sizes / middle) ** settings.temperature).astype(int)
        keep = np.minimum(keep, flat.where(sizes > middle, sizes))
    return keep


def _hash_rows(table: pd.DataFrame, archive: Archive) -> tuple[pd.DataFrame, Counter[str]]:
    """Add the hashes; drop rows whose image can't be read, counted by reason."""
    paths = table["image_path"].tolist()
    hashes = hash_images(paths, archive.read)
    problems = [hashes[path].problem for path in paths]
    reasons = Counter(
        "picture_" + problem.split(",")[0].replace(" ", "_").lower()
        for problem in problems
        if problem
    )
    readable = [not problem for problem in problems]
    table = fill_hashes(table, hashes)[list(BALANCED_COLUMNS)]
    return table[readable].reset_index(drop=True), reasons


def _evenness(types: pd.Series) -> dict[str, float]:
    """How even a distribution over product types is.

    Returns:
        largest_share, of the most frequent type, and effective_types, e^entropy: the number of
        equally frequent types with the same entropy (the Hill number of order 1).
    """
    share = types.value_counts(normalize=True).to_numpy()
    if not len(share):
        return {"largest_share": 0.0, "effective_types": 0.0}
    entropy = float(-(share * np.log(share)).sum())
    return {
        "largest_share": round(float(share.max()), 6),
        "effective_types": round(float(np.exp(entropy)), 3),
    }


def _type_counts(table: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Rows per product type before and after balancing, the largest type first."""
    before, after = (t["product_type"].value_counts() for t in (table, kept))
    counts = pd.DataFrame({"clean": before, "balanced": after.reindex(before.index, fill_value=0)})
    counts = counts.rename_axis("product_type").reset_index()
    return counts.sort_values(["clean", "product_type"], ascending=[False, True], ignore_index=True)


def describe_curation(result: CurationResult, language: str) -> str:
    """Return the funnel for the terminal.

    Args:
        result: the tables and counts.
        language: the rule that selected the rows.
    """
    funnel = result.funnel
    lines = [
        f"{funnel['images']:,} images → {funnel['with_metadata']:,} with metadata → "
        f"{funnel['clean']:,} clean → {funnel['balanced']:,} balanced, {funnel['types']:,} types"
    ]
    dropped = {key.replace("picture", "image"): n for key, n in funnel["dropped"].items()}
    lines += [f"  dropped  {reason:28}{n:>9,}" for reason, n in dropped.items()]
    if language != "any_en":
        gained = funnel["language"]["gained_by_any_en"]
        lines.append(f"  the language rule any_en would add {gained:,} clean rows")
    if result.broken.count:
        lines.append(f"  {result.broken.count:,} line(s) aren't JSON objects, the first:")
        lines += [f"    {line}" for line in result.broken.first]
    return "\n".join(lines)
