"""Defects of listings: each function gives a clean listing one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from sample.catalogue import (
    A_KIND,
    EXCLUDED,
    PHONE_CASES,
    Catalogue,
    Draw,
    Listing,
    Picture,
    tagged,
)
from sample.words import KINDS

Stain = Callable[[Listing, random.Random], Listing]


def without(*names: str) -> Stain:
    """Drop fields."""
    return lambda listing, r: {k: v for k, v in listing.items() if k not in names}


def non_ascii_name(listing: Listing, r: random.Random) -> Listing:
    """Put a dash or a trademark sign into the name."""
    entry = listing["item_name"][0]
    dash = entry["value"].replace(" ", r.choice((" – ", "® ")), 1)
    return {**listing, "item_name": [{**entry, "value": dash}]}


def non_ascii_color(listing: Listing, r: random.Random) -> Listing:
    """Put a dash into the color."""
    entry = listing["color"][0]
    return {**listing, "color": [{**entry, "value": f"{entry['value']} – Matt"}]}


def foreign_first(listing: Listing, r: random.Random) -> Listing:
    """English comes second, after a language the curation doesn't look past."""
    name = listing["item_name"]
    other = tagged(r.choice(("ja_JP", "zh_CN", "hi_IN", "fr_FR")), "商品 " + name[0]["value"])
    return {**listing, "item_name": [other, *name]}


def foreign_keywords(listing: Listing, r: random.Random) -> Listing:
    """Replace the keywords by French ones."""
    words = ("maison", "cadeau", "cuisine")
    return {**listing, "item_keywords": [tagged("fr_FR", word) for word in words]}


def untagged_keywords(listing: Listing, r: random.Random) -> Listing:
    """Harmless: values without a language count, repeats and capitals are folded."""
    values = [{"value": e["value"]} for e in listing["item_keywords"]]
    return {**listing, "item_keywords": [*values, {"value": values[0]["value"].upper() + " "}]}


def plain_type(listing: Listing, r: random.Random) -> Listing:
    """Harmless: the field is the value, not a list."""
    return {**listing, "product_type": listing["product_type"][0]["value"]}


def unknown_image(listing: Listing, r: random.Random) -> Listing:
    """Name an image that doesn't exist."""
    return {**listing, "main_image_id": f"61unknown{r.randrange(10):d}L"}


def more_entries(listing: Listing, r: random.Random) -> Listing:
    """Harmless: a second entry that nobody reads."""
    second = tagged("de_DE", "Zweiter Eintrag")
    return {**listing, "item_name": [*listing["item_name"], second]}


# (share of products, stain); None lists the product in another language only.
STAINS: tuple[tuple[float, Stain | None], ...] = (
    (0.065, None),
    (0.03, foreign_first),
    (0.03, without("color")),
    (0.01, without("item_name")),
    (0.03, without("item_keywords")),
    (0.01, without("product_type")),
    (0.008, without("main_image_id")),
    (0.035, non_ascii_name),
    (0.015, non_ascii_color),
    (0.015, foreign_keywords),
    (0.015, unknown_image),
    (0.03, untagged_keywords),
    (0.01, plain_type),
    (0.03, more_entries),
)


def draw_catalogue(seed: int) -> Catalogue:
    """About 950 listings of 28 product types over 16 shards, and their pictures."""
    draw = Draw(seed)
    kinds = [kind for kind in KINDS for _ in range(A_KIND)]
    kinds += ["CELLULAR_PHONE_CASE"] * (PHONE_CASES - A_KIND)
    draw.random.shuffle(kinds)
    clean: list[tuple[Listing, Picture, int]] = []
    for kind in kinds:
        sold = sell(draw, kind)
        if sold:
            clean.append(sold)
    listed_again(draw, clean)
    copies(draw, clean)
    damage(draw, clean)
    broken_lines(draw)
    return draw.catalogue


def sell(draw: Draw, kind: str) -> tuple[Listing, Picture, int] | None:
    """List one product; returns it with its shard if nothing is wrong with it."""
    r = draw.random
    look = draw.look(kind)
    picture = draw.picture(look)
    tag = r.choices(("en_US", "en_GB", "en_IN", "en_CA", "en_AU"), (60, 14, 14, 7, 5))[0]
    roll, stain, dirty = r.random(), None, False
    for share, candidate in STAINS:
        if roll < share:
            stain, dirty = candidate, True
            break
        roll -= share
    if dirty and stain is None:
        tag = r.choice(("de_DE", "es_ES"))
    listing = draw.listing(look, picture.image_id, tag)
    if r.random() < 0.08:  # further pictures, without metadata of their own
        others = [draw.picture(draw.another_view(look)).image_id for _ in range(r.randint(1, 2))]
        listing["other_image_id"] = others
    if stain is not None:
        listing = stain(listing, r)
    shard = draw.put(listing)
    return None if dirty else (listing, picture, shard)


def listed_again(draw: Draw, clean: list[tuple[Listing, Picture, int]]) -> None:
    """The same product in other markets: sharing its image, or with one of its own."""
    r = draw.random
    early = [sold for sold in clean if sold[2] < 12]
    for k, (listing, picture, shard) in enumerate(r.sample(early, 40)):
        # In a later shard, so it overwrites; every third one in German, which loses the row.
        tag = "de_DE" if k % 3 == 0 else r.choice(("en_GB", "en_CA"))
        again = draw.listing(picture.look, picture.image_id, tag, listing["item_id"])
        draw.put(again, r.randrange(shard + 1, 16))
    for listing, picture, _ in r.sample(clean, 45):
        view = draw.picture(draw.another_view(picture.look))
        tag = r.choice(("en_GB", "en_IN", "en_US"))
        draw.put(draw.listing(picture.look, view.image_id, tag, listing["item_id"]))


def copies(draw: Draw, clean: list[tuple[Listing, Picture, int]]) -> None:
    """Near-duplicate pictures (compressed again, moved by a pixel or two) and identical ones."""
    r = draw.random
    chosen = r.sample(clean, 45)
    for _, picture, _ in chosen[:28]:
        near = draw.picture(
            picture.look, quality=r.choice((45, 60)), shift=(r.randint(-2, 2), r.randint(-2, 2))
        )
        draw.put(draw.listing(picture.look, near.image_id, "en_US", draw.item_id()))
    for listing, picture, _ in chosen[28:]:
        same = draw.picture(picture.look)
        draw.put(draw.listing(picture.look, same.image_id, "en_GB", listing["item_id"]))


def damage(draw: Draw, clean: list[tuple[Listing, Picture, int]]) -> None:
    """Pictures that don't decode, that aren't there, that nobody lists; the study's exclusions."""
    pictures = draw.catalogue.pictures
    mugs = [p for listing, p, _ in clean if p.look.kind == "MUG"]
    for kind, victim in zip(("truncated", "empty", "absent"), mugs, strict=False):
        pictures[pictures.index(victim)] = replace(victim, damage=kind)
    draw.picture(draw.look("VASE"), listed=False)
    for name in EXCLUDED:
        look = draw.look("LAMP")
        picture = draw.picture(look)
        pictures[-1] = replace(picture, image_id=name)
        draw.put(draw.listing(look, name))


def broken_lines(draw: Draw) -> None:
    """A line cut in the middle, and an empty one."""
    shard = draw.catalogue.shards[7]
    line = shard[len(shard) // 2]
    shard.insert(len(shard) // 2, line[: len(line) // 3])
    draw.catalogue.shards[11].insert(3, "")
