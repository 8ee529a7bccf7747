"""The catalogue of the sample: what is sold, how it looks, and how dirtily it is listed.

The shares of dirt follow what a curation of the real listings meets: other languages, missing
and non-ASCII fields, shared main images, products with several images, near-duplicates.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, field, replace
from typing import Any

from sample.scene import Look
from sample.studio import PATTERNS, SAMPLE_PALETTE
from sample.words import (
    BRANDS,
    BULLETS,
    GERMAN_COLORS,
    KINDS,
    SPANISH_COLORS,
    STYLES,
    TRADE_COLORS,
)

Listing = dict[str, Any]

A_KIND = 27  # products of an ordinary type
PHONE_CASES = 132  # far over the sample profile's cap of 60
COUNTS = (1, 1, 1, 2, 2, 3, 3, 4, 5)
# The study leaves these three out by name.
EXCLUDED = ("518Dk4F0zZL", "719hoe+0vIL", "71Qbh8wmhnL")
ENGLISH = ("en_US", "en_GB", "en_IN", "en_CA", "en_AU")
MARKETS = {
    "en_US": "com",
    "en_GB": "co.uk",
    "en_IN": "in",
    "en_CA": "ca",
    "en_AU": "com.au",
    "de_DE": "de",
    "es_ES": "es",
}
BASE62 = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Picture:
    """A file of the image archive.

    Attributes:
        image_id: its id in images.csv.
        path: its path below images/small.
        look: what is drawn.
        quality: JPEG quality.
        shift: whole pixels the drawing is moved by (near-duplicates).
        damage: "", "truncated", "empty", or "absent" (in images.csv, not in the archive).
        listed: it has a row in images.csv.
    """

    image_id: str
    path: str
    look: Look
    quality: int = 80
    shift: tuple[int, int] = (0, 0)
    damage: str = ""
    listed: bool = True


@dataclass
class Catalogue:
    """Sixteen shards of JSON lines and the pictures they refer to."""

    shards: list[list[str]] = field(default_factory=lambda: [[] for _ in range(16)])
    pictures: list[Picture] = field(default_factory=list)


class Draw:
    """Draws the catalogue; everything follows from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.catalogue = Catalogue()
        self.ids: set[str] = set()

    # --- identities -------------------------------------------------------------------------

    def image_id(self) -> str:
        """An id like ABO's: two digits, eight characters, L."""
        while True:
            body = "".join(self.random.choices(BASE62 + "+-", k=8))
            name = f"{self.random.choice(('51', '61', '71', '81', '91', 'A1'))}{body}L"[:11]
            if name.lower() not in self.ids:
                self.ids.add(name.lower())
                return name

    def item_id(self) -> str:
        """An item id like ABO's: B0 and eight characters."""
        return "B0" + "".join(self.random.choices(string.ascii_uppercase + string.digits, k=8))

    def picture(self, look: Look, **changes: Any) -> Picture:
        """A new picture in the archive."""
        stem = f"{self.random.getrandbits(32):08x}"
        made = Picture(self.image_id(), f"{stem[:2]}/{stem}.jpg", look, **changes)
        self.catalogue.pictures.append(made)
        return made

    def put(self, listing: Listing, shard: int | None = None) -> int:
        """Write a listing at the end of a shard, a random one by default."""
        import json

        shard = self.random.randrange(16) if shard is None else shard
        self.catalogue.shards[shard].append(json.dumps(listing, ensure_ascii=False))
        return shard

    # --- products ---------------------------------------------------------------------------

    def look(self, kind: str) -> Look:
        """A product: its looks are drawn independently of one another."""
        r, about = self.random, KINDS[kind]
        return Look(
            kind=kind,
            color=r.choice(list(SAMPLE_PALETTE)),
            material=r.choice(about.materials),
            pattern=r.choice((*PATTERNS, "solid", "solid")),
            form=r.choice(about.forms) if about.forms else "",
            count=r.choice(COUNTS),
            shape_seed=r.getrandbits(31),
            view_seed=r.getrandbits(31),
        )

    def another_view(self, look: Look) -> Look:
        """The same product in another pose and light."""
        return replace(look, view_seed=self.random.getrandbits(31))

    def listing(self, look: Look, picture: str, tag: str = "en_US", item: str = "") -> Listing:
        """A complete listing with ABO's fields, in one language."""
        r, about = self.random, KINDS[look.kind]
        brand = r.choice(BRANDS)
        color = self.color(look.color, tag)
        values = {
            "brand": [tagged(tag, brand)],
            "bullet_point": [tagged(tag, text) for text in r.sample(BULLETS, r.randint(1, 3))],
            "color": [{**tagged(tag, color), "standardized_values": [look.color.title()]}],
            "item_id": item or self.item_id(),
            "item_name": [tagged(tag, self.name(look, brand, color, tag))],
            "item_weight": [{"unit": "pounds", "value": round(r.uniform(0.2, 30), 2)}],
            "item_keywords": [tagged(tag, word) for word in self.keywords(look, tag)],
            "model_number": [{"value": f"{brand[:2].upper()}-{r.randrange(1000, 9999)}"}],
            "product_type": [{"value": look.kind}],
            "main_image_id": picture,
            "country": tag[-2:],
            "marketplace": "Amazon",
            "domain_name": f"amazon.{MARKETS[tag]}",
            "node": [{"node_id": r.randrange(10**6, 10**9), "node_name": f"/Home/{about.noun}"}],
        }
        if r.random() < 0.9:
            values["material"] = [tagged(tag, look.material.title())]
        if r.random() < 0.88:
            values["pattern"] = [tagged(tag, look.pattern.title())]
        if look.form:
            values["item_shape"] = [tagged(tag, look.form.title())]
        if r.random() < 0.2:
            values["style"] = [tagged(tag, r.choice(STYLES))]
        return values

    def color(self, color: str, tag: str) -> str:
        """A color in a seller's words, in the listing's language."""
        if tag.startswith("de"):
            return GERMAN_COLORS[color]
        if tag.startswith("es"):
            return SPANISH_COLORS[color]
        if tag == "en_GB" and color == "gray":
            return "Grey"
        return TRADE_COLORS[color] if self.random.random() < 0.1 else color.title()

    def name(self, look: Look, brand: str, color: str, tag: str) -> str:
        """A product's name in the listing's language."""
        r, about = self.random, KINDS[look.kind]
        if tag.startswith("de"):
            return f"{brand} {about.german}, {color}" + set_of(look.count, "{}er-Set", r)
        if tag.startswith("es"):
            return f"{brand} {about.spanish} {color}" + set_of(look.count, "Juego de {}", r)
        words = [brand, color, about.noun]
        if r.random() < 0.5:
            words.insert(-1, look.material.title())
        if look.pattern != "solid" and r.random() < 0.5:
            words.insert(1, look.pattern.title())
        return " ".join(words) + set_of(look.count, "", r)

    def keywords(self, look: Look, tag: str) -> list[str]:
        """A product's keywords in the listing's language."""
        r, about = self.random, KINDS[look.kind]
        if tag.startswith("de"):
            return [about.german.lower(), "geschenk", "haushalt"]
        if tag.startswith("es"):
            return [about.spanish.lower(), "regalo", "hogar"]
        extra = r.sample(("gift", "new", "Everyday", "home", look.material, look.color), 2)
        return [*about.keywords, *extra]


def tagged(tag: str, value: str) -> dict[str, Any]:
    """A language-tagged value."""
    return {"language_tag": tag, "value": value}


def set_of(count: int, template: str, r: random.Random) -> str:
    """How a name says how many pieces there are; a single piece goes without saying."""
    if count == 1:
        return ""
    style = template or r.choice(("Set of {}", "Set of {}", "Pack of {}", "{}-Pack"))
    return ", " + style.format(count)
