"""The offline annotator: questions about attributes that the catalogue has and the image shows.

It replaces the paid annotators where there is no key and no network: distinct one-word pairs about
each image, balanced over the kinds of question, the same for the same image and seed.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from abo_vqa.data.pairs import Pair, Product

COLORS = (
    "black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown",
    "beige", "gold", "silver", "multicolor", "navy", "ivory", "cream", "turquoise", "bronze",
)  # fmt: skip
_MATERIALS = (
    "wood", "metal", "plastic", "glass", "fabric", "leather", "ceramic", "cotton", "steel", "paper",
    "rubber", "silicone", "stone", "marble", "velvet", "wool", "polyester", "linen", "canvas",
)  # fmt: skip
_PATTERNS = ("solid", "striped", "dotted", "checkered", "floral", "geometric", "plaid", "paisley")
_SHAPES = ("round", "square", "rectangular", "oval", "triangular", "hexagonal", "heart")
_MAX_COUNT = 10  # nobody counts a larger set at a glance
_SPELLINGS = {
    "grey": "gray", "multi": "multicolor", "multicolored": "multicolor", "wooden": "wood",
    "rectangle": "rectangular", "circular": "round", "stripes": "striped", "polka": "dotted",
    "checked": "checkered", "plain": "solid", "flowers": "floral",
}  # fmt: skip
# Parts of product types that aren't used in speech, and final words too vague to ask about.
_UNSPOKEN = {"cellular", "home", "accessory", "accessories", "misc", "other", "and", "or"}
_VAGUE = {"", "product", "item", "part", "equipment", "supplies", "supply", "merchandise", "set"}
_COUNT = re.compile(r"\b(?:set|pack) of (\d+)\b|\b(\d+)[- ]?(?:pack|piece|count)\b")

_QUESTIONS = {
    "color": (
        "What color is the {noun}?",
        "Which color does this {noun} have?",
        "What is the color of the {noun}?",
    ),
    "type": (
        "What type of product is this?",
        "What is shown in the picture?",
        "What kind of product is shown?",
    ),
    "material": (
        "What material is the {noun} made of?",
        "What is the {noun} made of?",
        "Which material is this {noun} made of?",
    ),
    "pattern": (
        "What pattern is on the {noun}?",
        "Which pattern does the {noun} have?",
        "What is the pattern of the {noun}?",
    ),
    "shape": ("What shape is the {noun}?", "Which shape does the {noun} have?"),
    "counting": (
        "How many {plural} are there?",
        "How many {plural} can you see?",
        "How many {plural} are shown in the picture?",
    ),
}
_YES_NO = {
    "color": ("Is the {noun} {value}?", "Is the color of the {noun} {value}?"),
    "type": ("Is this a {value}?", "Is there a {value} in the picture?"),
    "material": ("Is the {noun} made of {value}?", "Is {value} the material of the {noun}?"),
    "pattern": ("Is the pattern {value}?", "Does the {noun} have a {value} pattern?"),
    "counting": ("Are there {value} {plural}?", "Can you see {value} {plural}?"),
    "shape": ("Is the {noun} {value}?", "Does the {noun} have a {value} shape?"),
}


def last_known_word(text: str, vocabulary: Sequence[str]) -> str:
    """Return the last word of a vocabulary in a catalogue value ("royal blue" → blue), or ""."""
    words = [_SPELLINGS.get(w, w) for w in re.findall(r"[a-z]+", text.lower())]
    return next((w for w in reversed(words) if w in vocabulary), "")


def noun_of(product_type: str) -> str:
    """Return a product type as a noun: "CELLULAR_PHONE_CASE" → "phone case", "SHOES" → "shoe"."""
    words = re.split(r"[^a-z0-9]+", product_type.lower())
    noun = " ".join(w for w in words if w and w not in _UNSPOKEN)
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun


def plural_of(noun: str) -> str:
    """Return the plural of a noun."""
    if noun.endswith(("ch", "sh", "s", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun[:-1] + "ves" if noun.endswith("lf") else noun + "s"


def facts_of(product: Product) -> dict[str, str]:
    """Return what can be asked about a product: kind of question → one-word answer."""
    count = _COUNT.search(product["name"])
    number = int(next(filter(None, count.groups()))) if count else 1
    last = (noun_of(product["product_type"]).split() or [""])[-1]
    facts = {
        "color": last_known_word(product["color"], COLORS),
        "type": "" if last in _VAGUE else last,
        "material": last_known_word(product.get("material", ""), _MATERIALS),
        "pattern": last_known_word(product.get("pattern", ""), _PATTERNS),
        "shape": last_known_word(product.get("item_shape", ""), _SHAPES),
        "counting": str(number) if 1 <= number <= _MAX_COUNT else "",
    }
    return {kind: answer for kind, answer in facts.items() if answer}


class OfflineAnnotator:
    """Asks about catalogue attributes."""

    def __init__(self, products: Iterable[Product], yes_share: float, seed: int) -> None:
        """Count the attributes' values.

        Args:
            products: every row that will be annotated: wrong values for questions answered "no"
                are drawn from what occurs among them.
            yes_share: share of "yes" among the yes/no questions.
            seed: with the image's id, decides everything random except which yes/no question is
                answered "yes", which depends on the order of the calls.
        """
        self._yes_share, self._seed = yes_share, seed
        self._yes_no_counts = {"yes": 0, "no": 0}
        self._values: dict[str, Counter[str]] = defaultdict(Counter)
        for product in products:
            for kind, answer in facts_of(product).items():
                self._values[kind][answer] += 1

    def candidates(self, product: Product) -> Iterator[Pair]:
        """Yield pairs about one product, in a random order that favours no kind of question."""
        rng = random.Random(f"{self._seed}:{product.get('image_id') or product['image_path']}")
        facts = facts_of(product)
        noun = noun_of(product["product_type"]) or "product"
        kinds = [*facts, "yes/no"]
        rng.shuffle(kinds)
        for kind in [*kinds, *["yes/no"] * 6, *kinds]:
            if kind == "yes/no":
                if facts:
                    yield self._yes_no_pair(facts, noun, rng)
                continue
            template = rng.choice(_QUESTIONS[kind])
            yield Pair(template.format(noun=noun, plural=plural_of(noun)), facts[kind], kind)

    def _is_yes_due(self) -> bool:
        """Return whether "yes" is below its share; random answers would miss it in a small set."""
        counts = self._yes_no_counts
        return counts["yes"] < self._yes_share * (sum(counts.values()) + 1)

    def _yes_no_pair(self, facts: Mapping[str, str], noun: str, rng: random.Random) -> Pair:
        """Return a statement about one attribute that is true or false.

        False values are drawn by their frequency: if they were drawn evenly, a rare colour in the
        question would reveal the "no".
        """
        kind = rng.choice([k for k in _YES_NO if k in facts])
        value, answer = facts[kind], "yes"
        if not self._is_yes_due():
            others = [(v, n) for v, n in sorted(self._values[kind].items()) if v != value]
            if others:
                names, weights = zip(*others, strict=True)
                value, answer = rng.choices(names, weights)[0], "no"
        self._yes_no_counts[answer] += 1
        question = rng.choice(_YES_NO[kind])
        plural = noun if kind == "counting" and value == "1" else plural_of(noun)
        if kind == "counting" and value == "1":
            question = question.replace("Are there", "Is there")
        claim = noun if kind == "type" and answer == "yes" else value
        question = question.format(noun=noun, plural=plural, value=claim)
        return Pair(re.sub(r"\ba (?=[aeiou])", "an ", question), answer, "yes/no")
