"""Stage `curate`: listings and pictures → one row a picture that questions can be asked about.

The rules are the published study's, to the letter, because its figures are compared with: a later
listing of the same picture overwrites an earlier one; of name, type and colour only the first entry
counts; a row needs all four fields, the first three in ASCII. What is dropped is counted by reason,
and the counts add up: images = sum(dropped) + balanced.
"""

from __future__ import annotations

import argparse
import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.archive import (
    Archive,
    Broken,
    Entry,
    Field,
    ImageError,
    Listing,
    open_archive,
)
from abo_vqa.config import Config, Curate
from abo_vqa.errors import UserError
from abo_vqa.io import progress, write_json, write_table
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    from numpy.typing import NDArray

BALANCED, TYPES, FUNNEL = (
    Path("data/balanced.csv"),
    Path("data/types.csv"),
    Path("data/funnel.json"),
)
FIELDS = ("name", "product_type", "color", "keywords")
EXTRAS = ("brand", "material", "pattern", "item_shape", "style", "finish_type")
HASHES = ("image_sha1", "phash")
ASCII = FIELDS[:3]
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

Pick = Callable[[Field], str]


def first_en(field: Field) -> str:
    """The study's rule: a plain value; else the first entry's, unless it is tagged as not English.

    Later entries aren't looked at, so an English name after a Japanese one is lost.
    """
    if field is None or isinstance(field, str):
        return field or ""
    if not field:
        return ""
    entry = field[0]
    tag = entry.language_tag
    return (entry.value or "") if tag is None or tag.startswith("en_") else ""


def any_en(field: Field) -> str:
    """A plain value; else the first entry's that is English, else the first without a language."""
    if field is None or isinstance(field, str):
        return field or ""
    untagged = ""
    for entry in field:
        value, tag = entry.value, entry.language_tag
        if value and tag is None:
            untagged = untagged or value
        elif value and tag and tag.startswith("en"):
            return value
    return untagged


RULES: dict[str, Pick] = {"first_en": first_en, "any_en": any_en}
OTHER = {"first_en": "any_en", "any_en": "first_en"}


def joined_keywords(field: Field) -> str:
    """English and untagged values: stripped, lower-cased, each once, in order, joined by ", "."""
    if field is None:
        return ""
    entries = [Entry(field)] if isinstance(field, str) else field
    values = [
        entry.value
        for entry in entries
        if entry.value and ((tag := entry.language_tag) is None or tag.startswith("en"))
    ]
    # Lower-casing once instead of thirty times a listing; no real value holds a NUL.
    words = "\0".join(values).lower().split("\0")
    return ", ".join(filter(None, dict.fromkeys(map(str.strip, words))))


def flaw(values: tuple[str, str, str], required: frozenset[str]) -> str:
    """Why name, product_type and color can't be used: the first missing, else the first not ASCII;
    "" if they can."""
    if all(values) and "".join(values).isascii():
        return ""
    for name, value in zip(ASCII, values, strict=True):
        if not value and name in required:
            return f"no_{name}"
    for name, value in zip(ASCII, values, strict=True):
        if not value.isascii() and name in required:
            return f"non_ascii_{name}"
    return ""


@dataclass
class Collected:
    """What the listings say about each picture.

    Attributes:
        latest: by image id the last listing's row (FIELDS, item id, EXTRAS), or why it has none.
        otherwise: image ids that would be usable under the other language rule.
        read, without_image, overwritten: counts of listings.
    """

    latest: dict[str, tuple[str, ...] | str] = field(default_factory=dict)
    otherwise: set[str] = field(default_factory=set)
    read: int = 0
    without_image: int = 0
    overwritten: int = 0


def collect(listings: Iterable[Listing], settings: Curate) -> Collected:
    """Go through all listings once; a later one of the same picture overwrites an earlier one."""
    pick, other = RULES[settings.language], RULES[OTHER[settings.language]]
    required, extras = frozenset(settings.required), attrgetter(*EXTRAS)
    found = Collected()
    latest, otherwise = found.latest, found.otherwise
    for listing in listings:
        found.read += 1
        image = listing.main_image_id
        if not image:
            found.without_image += 1
            continue
        if image in latest:
            found.overwritten += 1
            otherwise.discard(image)
        fields = (listing.item_name, listing.product_type, listing.color)
        values = (pick(fields[0]), pick(fields[1]), pick(fields[2]))
        reason = flaw(values, required)
        usable_otherwise = not flaw(
            (other(fields[0]), other(fields[1]), other(fields[2])), required
        )
        if not reason or usable_otherwise:
            keywords = joined_keywords(listing.keywords())
            if not keywords and "keywords" in required:
                reason, usable_otherwise = reason or "no_keywords", False
        if usable_otherwise:
            otherwise.add(image)
        latest[image] = reason or (
            *[v.lower() if v.isascii() else "" for v in values],  # not ASCII: not required
            keywords,
            listing.item_id or "",
            *[any_en(field).lower() if field else "" for field in extras(listing)],
        )
    return found


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause Python's cycle collector, which would look at millions of values that form no cycle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def is_in(values: pd.Series, known: list[str]) -> NDArray[np.bool_]:
    """[n] which of some strings are known: ten times faster than pandas' `isin` on them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(pa.array(values, pa.string()), value_set=pa.array(known, pa.string()))
    mask: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return mask


def clean_table(archive: Archive, settings: Curate) -> tuple[pd.DataFrame, dict[str, Any], Broken]:
    """Join listings and pictures; keep the rows that the rules allow.

    Returns:
        rows sorted by path (COLUMNS without the picture's hashes), the funnel so far, and the lines
        that didn't parse.
    """
    broken = Broken()
    found = collect(archive.listings(broken), settings)
    images = archive.images()
    total, dropped = len(images), Counter[str]()
    for reason, bad in (
        ("no_image_id_or_path", (images["image_id"] == "") | (images["path"] == "")),
        ("duplicate_image_id", images["image_id"].duplicated()),
        ("duplicate_path", images["path"].duplicated()),
    ):
        bad = bad.reindex(images.index)  # without the rows that are gone already
        dropped[reason] = int(bad.sum())
        images = images[~bad]
    known = is_in(images["image_id"], list(found.latest))
    dropped["no_metadata"] = int((~known).sum())
    images = images[known]
    excluded = is_in(images["image_id"], list(settings.excluded_images))
    dropped["excluded"] = int(excluded.sum())
    rows, otherwise = [], 0
    for image, path in zip(
        images.loc[~excluded, "image_id"].tolist(),
        images.loc[~excluded, "path"].tolist(),
        strict=True,
    ):
        values = found.latest[image]
        otherwise += image in found.otherwise
        if isinstance(values, str):
            dropped[values] += 1
        else:
            rows.append((path, *values[:4], image, *values[4:]))
    rows.sort()  # by path, which is unique
    columns = [name for name in COLUMNS if name not in HASHES]
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    clean = {settings.language: len(table), OTHER[settings.language]: otherwise}
    funnel = {
        "images": total,
        "with_metadata": len(images),
        "clean": len(table),
        "dropped": dict(dropped),
        "listings": {
            "read": found.read,
            "broken": broken.count,
            "without_image": found.without_image,
            "unknown_image": len(found.latest) - len(images),
            "overwritten": found.overwritten,
        },
        "language": {name: clean[name] for name in RULES}
        | {"gained_by_any_en": clean["any_en"] - clean["first_en"]},
    }
    return table, funnel, broken


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
    write_json(result.funnel, FUNNEL)
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
    parser.add_argument("--temperature", type=float, help="flatten by this exponent, 0 to 1")
    parser.add_argument(
        "--no-pictures", action="store_true", help="don't read pictures: no hashes, none dropped"
    )


def command(args: argparse.Namespace) -> int:
    if not args.raw and not args.out:
        return execute("curate", run)
    if not args.raw or not args.out:
        raise UserError("--raw DIR and --out FILE belong together.")
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
