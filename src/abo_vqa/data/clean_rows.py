"""Listings joined with images.csv: the rows that the rules allow, and counts of those they don't.

What decides about a row (ids, reasons, types) is held as numbers and short arrays for all rows; the
texts stay in Arrow's arrays as the shards gave them, and are only gathered for rows that are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from abo_vqa.core.config import CurateConfig
from abo_vqa.core.engine.work import RunMap
from abo_vqa.core.text_columns import TEXT, text_frame
from abo_vqa.data.archive import Archive
from abo_vqa.data.listings import BrokenLines
from abo_vqa.data.rules import (
    LANGUAGE_RULES,
    LISTING_COLUMNS,
    OTHER_RULE,
    REJECTIONS,
    SelectedListings,
    select_listings,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CleanRows:
    """The rows that the rules allow, sorted by image_path.

    Attributes:
        product_types: [n] the rows' types, indexed from 0.
    """

    def __init__(
        self, paths: pa.Array, images: pa.Array, places: NDArray[np.int64], listings: pa.Table
    ) -> None:
        """Sort the rows.

        Args:
            paths: [n] of the images.
            images: [n] their ids.
            places: [n] the listing that describes each, a row of `listings`.
            listings: `LISTING_COLUMNS`.
        """
        order = pc.sort_indices(paths)
        self._paths, self._images = paths.take(order), images.take(order)
        self._places: NDArray[np.int64] = places[order.to_numpy()]
        self._listings = listings
        types = listings["product_type"].take(pa.array(self._places))
        self.product_types = text_frame({"product_type": types})["product_type"]

    def __len__(self) -> int:
        return len(self._places)

    def take(self, kept: NDArray[np.int64]) -> pd.DataFrame:
        """Return some rows: image_path, image_id and `LISTING_COLUMNS`.

        Args:
            kept: [k] their positions.
        """
        at, places = pa.array(kept), pa.array(self._places[kept])
        columns = {
            name: pa.chunked_array([values.take(at)])
            for name, values in (("image_path", self._paths), ("image_id", self._images))
        }
        for name in LISTING_COLUMNS:
            columns[name] = self._listings[name].take(places)
        return text_frame(columns)


def clean_rows(
    archive: Archive, settings: CurateConfig, run: RunMap = map
) -> tuple[CleanRows, dict[str, Any], BrokenLines]:
    """Join listings with images and keep the rows that the rules allow.

    Args:
        archive: the raw data.
        settings: the rules.
        run: applies a function to the shards.

    Returns:
        the rows, the funnel so far, and the lines that didn't parse.
    """
    listings = _read_listings(archive, settings, run)
    images = archive.image_table()
    total, dropped = len(images), Counter[str]()
    images, known = _with_metadata(images, listings.images, dropped)
    with_metadata = len(images)
    excluded = _array(images["image_id"])
    excluded = pc.is_in(excluded, value_set=pa.array(settings.excluded_images, TEXT))
    allowed = ~excluded.to_numpy(zero_copy_only=False)
    dropped["excluded"] = int((~allowed).sum())
    images, latest = images[allowed], listings.latest[known[allowed]]
    reasons = listings.reasons[latest]
    for code, count in enumerate(np.bincount(reasons, minlength=len(REJECTIONS))):
        dropped[REJECTIONS[code]] += int(count)
    clean = dropped.pop("")
    good = reasons == 0
    rows = CleanRows(
        _array(images["path"][good]),
        _array(images["image_id"][good]),
        listings.places[latest[good]],
        listings.rows,
    )
    by_rule = {
        settings.language: clean,
        OTHER_RULE[settings.language]: int(listings.by_other_rule[latest].sum()),
    }
    funnel = {
        "images": total,
        "with_metadata": with_metadata,
        "clean": clean,
        "dropped": dict(dropped),
        "listings": {
            "read": listings.read,
            "broken": listings.broken.count,
            "without_image": listings.without_image,
            "unknown_image": len(listings.images) - with_metadata,
            "overwritten": listings.read - listings.without_image - len(listings.images),
        },
        "language": {name: by_rule[name] for name in LANGUAGE_RULES}
        | {"gained_by_any_en": by_rule["any_en"] - by_rule["first_en"]},
    }
    return rows, funnel, listings.broken


@dataclass(frozen=True)
class _Listings:
    """What all listings say; m of them are the last of their shard about an image.

    Attributes:
        images: [n] image ids, each once.
        latest: [n] the last listing about each, one of m.
        reasons: [m] position in `REJECTIONS`.
        by_other_rule: [m] whether the other language rule would give a row.
        places: [m] where in `rows` it is, if it gives one.
        rows: `LISTING_COLUMNS`.
        read: how many listings there are.
        without_image: how many of them name no image.
        broken: lines that aren't JSON.
    """

    images: pa.Array
    latest: NDArray[np.int64]
    reasons: NDArray[np.uint8]
    by_other_rule: NDArray[np.bool_]
    places: NDArray[np.int64]
    rows: pa.Table
    read: int
    without_image: int
    broken: BrokenLines


def _read_listings(archive: Archive, settings: CurateConfig, run: RunMap) -> _Listings:
    """Read all shards; a later listing of the same image replaces an earlier one.

    Raises:
        UserError: see `Archive.listings`.
    """
    shards: list[SelectedListings] = []
    broken = BrokenLines()
    for shard in run(partial(select_listings, archive, settings), archive.shards()):
        shards.append(shard)
        broken.extend(shard.broken)
    read = sum(shard.read for shard in shards)
    if not read:
        raise archive.no_listing(broken)
    images = pa.chunked_array([shard.images for shard in shards], TEXT).combine_chunks()
    numbered = images.dictionary_encode()
    latest = np.empty(len(numbered.dictionary), dtype=np.int64)
    latest[numbered.indices.to_numpy()] = np.arange(len(images))  # of several, the last remains
    reasons = np.concatenate([shard.reasons.to_numpy() for shard in shards])
    return _Listings(
        images=numbered.dictionary,
        latest=latest,
        reasons=reasons,
        by_other_rule=np.concatenate(
            [shard.by_other_rule.to_numpy(zero_copy_only=False) for shard in shards]
        ),
        places=np.cumsum(reasons == 0) - 1,
        rows=pa.concat_tables([shard.rows for shard in shards]),
        read=read,
        without_image=sum(shard.without_image for shard in shards),
        broken=broken,
    )


_BAD_IMAGES: tuple[tuple[str, Callable[[pd.DataFrame], pd.Series]], ...] = (
    ("no_image_id_or_path", lambda images: (images["image_id"] == "") | (images["path"] == "")),
    ("duplicate_image_id", lambda images: images["image_id"].duplicated()),
    ("duplicate_path", lambda images: images["path"].duplicated()),
)


def _with_metadata(
    images: pd.DataFrame, described: pa.Array, dropped: Counter[str]
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Keep the rows of images.csv that are sound and described; the others are counted.

    Args:
        images: the rows.
        described: ids of the images that listings are about.
        dropped: how many rows are dropped, by reason.

    Returns:
        the rows, and the position of each one's id.
    """
    for reason, test in _BAD_IMAGES:
        bad = test(images)
        dropped[reason] = int(bad.sum())
        images = images[~bad]
    position = pc.index_in(_array(images["image_id"]), value_set=described)
    known = position.is_valid().to_numpy(zero_copy_only=False)
    dropped["no_metadata"] = int((~known).sum())
    return images[known], position.drop_null().to_numpy().astype(np.int64)


def _array(values: pd.Series) -> pa.Array:
    """Return texts as one array of Arrow's."""
    array = pa.array(values, TEXT)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
