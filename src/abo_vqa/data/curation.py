"""Listings + images.csv → one row per picture that a question can be asked about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abo_vqa.config import CurateConfig
from abo_vqa.core.errors import UserError
from abo_vqa.core.progress import progress
from abo_vqa.data.archive import Archive, open_archive
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.listings import BrokenLines
from abo_vqa.data.rules import EXTRAS, FIELDS, clean_table, paused_gc

_HASHES = ("image_sha1", "phash")


COLUMNS = ("image_path", *FIELDS, "image_id", "item_id", "image_sha1", "phash", *EXTRAS)


STUDY = CurateConfig(
    cap=5000,
    language="first_en",
    required=FIELDS,
    excluded_images=("518Dk4F0zZL", "719hoe+0vIL", "71Qbh8wmhnL"),
    balance="cap",
    temperature=0.5,
)


STUDY_SEED = 42


def _allowances(sizes: pd.Series, settings: CurateConfig) -> pd.Series:
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


def balanced(table: pd.DataFrame, settings: CurateConfig, seed: int) -> pd.DataFrame:
    """Thin out large product types: of each, `DataFrame.sample(k, random_state=seed)`."""
    keep = _allowances(table["product_type"].value_counts(), settings)
    parts = [
        rows.sample(int(keep[kind]), random_state=seed) if keep[kind] < len(rows) else rows
        for kind, rows in table.groupby("product_type", sort=True)
    ]
    if not parts:
        return table
    return pd.concat(parts).sort_values("image_path", ignore_index=True)


def _evenness(kinds: pd.Series) -> dict[str, float]:
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


def _inspect(archive: Archive, path: str) -> tuple[str, str, str]:
    """SHA-1 and perceptual hash of a picture, or "", "" and what is wrong with it."""
    from abo_vqa.data.image_decoding import UnreadableImageError, phash, sha1

    try:
        data = archive.read(path)
        return sha1(data), phash(data, path), ""
    except ImageError as error:
        return "", "", error.reason
    except UnreadableImageError as error:
        return "", "", str(error)


def _with_hashes(table: pd.DataFrame, archive: Archive) -> tuple[pd.DataFrame, Counter[str]]:
    """Add image_sha1 and phash; drop rows whose picture can't be read, counted by reason."""
    paths = progress(table["image_path"].tolist(), total=len(table), desc="pictures", unit="image")
    seen = [_inspect(archive, path) for path in paths]
    hashes = pd.DataFrame(seen, columns=[*_HASHES, "reason"], dtype=object)
    fine = (hashes["reason"] == "").to_numpy()
    reasons = Counter(
        "picture_" + reason.split(",")[0].replace(" ", "_").lower()
        for reason in hashes.loc[~fine, "reason"]
    )
    table = table.assign(**{name: hashes[name].to_numpy() for name in _HASHES})[fine]
    return table[list(COLUMNS)].reset_index(drop=True), reasons


@dataclass(frozen=True)
class Result:
    """balanced: the table; types: product_type, clean, balanced; funnel: counts; broken: lines."""

    balanced: pd.DataFrame
    types: pd.DataFrame
    funnel: dict[str, Any]
    broken: BrokenLines


def curate(raw: Path, settings: CurateConfig, seed: int, *, pictures: bool = True) -> Result:
    """From the archives in `raw` to the balanced table.

    Args:
        pictures: hash every kept picture and drop those that can't be read; False leaves the hashes
            empty and pictures unseen, as the study does.
    Raises:
        UserError: the archives are missing or damaged, or no row is left.
    """
    with open_archive(raw) as archive:
        with paused_gc():
            table, funnel, broken = clean_table(archive, settings)
        kept = balanced(table, settings, seed)
        funnel["dropped"]["over_cap"] = len(table) - len(kept)
        if pictures:
            kept, reasons = _with_hashes(kept, archive)
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
        for name, value in _evenness(rows["product_type"]).items()
    }
    return Result(kept, _type_counts(table, kept), funnel, broken)


def _type_counts(table: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """product_type, clean, balanced: rows a type before and after, the largest first."""
    before, after = (t["product_type"].value_counts() for t in (table, kept))
    counts = pd.DataFrame({"clean": before, "balanced": after.reindex(before.index, fill_value=0)})
    counts = counts.rename_axis("product_type").reset_index()
    return counts.sort_values(["clean", "product_type"], ascending=[False, True], ignore_index=True)
