"""From listings and images.csv to the balanced table: one row per image to ask questions about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.config import CurateConfig
from abo_vqa.core.engine.work import RunMap
from abo_vqa.core.errors import UserError
from abo_vqa.core.progress import progress
from abo_vqa.core.text_columns import TextColumns
from abo_vqa.core.text_list import TextBatches, TextList
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.clean_rows import clean_rows
from abo_vqa.data.image_hashes import HASH_BATCH, HASH_COLUMNS, fill_hashes, hash_batch
from abo_vqa.data.listings import BrokenLines
from abo_vqa.data.rules import EXTRAS, FIELDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    raw: Path | str,
    settings: CurateConfig,
    seed: int,
    *,
    with_hashes: bool = True,
    run: RunMap = map,
) -> CurationResult:
    """Make the balanced table from the archives.

    Args:
        raw: the archives' folder, or its URL.
        settings: the rules.
        seed: random state of the sample that balancing takes.
        with_hashes: hash every image that is kept, and drop those that can't be read. False leaves
            the hashes empty and doesn't open images, as in the study.
        run: applies a function to shards of listings, and to batches of images; their sizes don't
            depend on it.

    Raises:
        UserError: the archives are missing or damaged, or no row is left.
    """
    with open_archive(raw) as archive:
        rows, funnel, broken = clean_rows(archive, settings, run)
        kept = rows.take(_balance(rows.product_types, settings, seed))
        before = rows.product_types
        del rows  # the texts of those that aren't kept
        funnel["dropped"]["over_cap"] = len(before) - len(kept)
        if with_hashes:
            kept, reasons = _hash_rows(kept, archive, run)
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
        for when, types in (("before", before), ("after", kept["product_type"]))
        for name, value in _evenness(types).items()
    }
    return CurationResult(kept, _type_counts(before, kept["product_type"]), funnel, broken)


def _balance(types: pd.Series, settings: CurateConfig, seed: int) -> NDArray[np.int64]:
    """Draw a random sample of each large product type (`Series.sample`).

    Args:
        types: [n] of the rows, by image_path.
        settings: the rules.
        seed: of each sample.

    Returns:
        [k] positions of the rows that are kept.
    """
    keep = _type_limits(types.value_counts(), settings)
    parts = [
        rows.sample(int(keep[kind]), random_state=seed) if keep[kind] < len(rows) else rows
        for kind, rows in types.groupby(types, sort=True)
    ]
    places = [part.index.to_numpy() for part in parts]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *places]))


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


def _hash_rows(
    table: pd.DataFrame, archive: Archive, run: RunMap
) -> tuple[pd.DataFrame, Counter[str]]:
    """Add the hashes; drop rows whose image can't be read, counted by reason."""
    batches = TextBatches(TextList.of(table["image_path"]), HASH_BATCH)
    hashes = chain.from_iterable(
        run(partial(hash_batch, archive.read, prefetch=archive.prefetch), batches)
    )
    columns, problems = TextColumns(), []
    for row in progress(hashes, total=len(table), desc="hashes", unit="image"):
        columns.append({name: getattr(row, name) for name in HASH_COLUMNS})
        problems.append(row.problem)
    reasons = Counter(
        "picture_" + problem.split(",")[0].replace(" ", "_").lower()
        for problem in problems
        if problem
    )
    added = columns.frame(HASH_COLUMNS).set_axis(table.index)
    table = table.assign(**{name: added[name] for name in HASH_COLUMNS})[list(BALANCED_COLUMNS)]
    readable = [not problem for problem in problems]
    return (table[readable] if reasons else table).reset_index(drop=True), reasons


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


def _type_counts(clean: pd.Series, kept: pd.Series) -> pd.DataFrame:
    """Rows per product type before and after balancing, the largest type first."""
    before, after = clean.value_counts(), kept.value_counts()
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
