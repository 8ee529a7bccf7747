"""The offline annotator: questions about what the catalogue says and the picture shows.

It stands in for the paid annotators wherever there is no key and no network: three distinct
one-word pairs an image, balanced over the kinds of question, the same for the same image and seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

COLORS = (
    "black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown",
)  # fmt: skip
MATERIALS = ("wood", "metal", "plastic", "glass", "fabric", "leather", "ceramic")
PATTERNS = ("solid", "striped", "dotted", "checkered", "floral")
SHAPES = ("round", "square", "rectangular", "oval")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SPELLINGS = {"grey": "gray", "multi": "multicolor", "wooden": "wood"}
COUNT = re.compile(r"\b(?:set|pack) of (\d+)\b|\b(\d+)[- ]?(?:pack|piece|count)\b")

QUESTIONS = {
    "color": ("What color is the {noun}?", "Which color does this {noun} have?"),
    "type": ("What type of product is this?", "What is shown in the picture?"),
    "material": ("What material is the {noun} made of?", "What is the {noun} made of?"),
    "pattern": ("What pattern is on the {noun}?", "Which pattern does the {noun} have?"),
    "shape": ("What shape is the {noun}?",),
    "counting": ("How many {plural} are there?", "How many {plural} can you see?"),
}
YES_NO = {
    "color": "Is the {noun} {value}?",
    "type": "Is this a {value}?",
    "material": "Is the {noun} made of {value}?",
    "pattern": "Is the pattern {value}?",
}


@dataclass(frozen=True)
class Pair:
    """A question, its one-word answer, and the kind of question it is."""

    question: str
    answer: str
    kind: str


def word(text: str, known: tuple[str, ...]) -> str:
    """The last of `known` in a catalogue value ("royal blue" → blue), "" if there is none."""
    words = [SPELLINGS.get(w, w) for w in re.findall(r"[a-z]+", text.lower())]
    return next((w for w in reversed(words) if w in known), "")


def noun_of(product_type: str) -> str:
    """ "CELLULAR_PHONE_CASE" → "phone case", "SHOES" → "shoe"."""
    words = product_type.lower().replace("-", "_").split("_")
    noun = " ".join(w for w in words if w not in ("cellular", "home", "accessory"))
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun


def plural_of(noun: str) -> str:
    if noun.endswith(("ch", "sh", "s", "x")):
        return noun + "es"
    return noun[:-1] + "ves" if noun.endswith("lf") else noun + "s"


def facts_of(product: Mapping[str, str]) -> dict[str, str]:
    """What can be asked about a product: kind of question → one-word answer."""
    count = COUNT.search(product["name"])
    number = int(next(filter(None, count.groups()))) if count else 1
    noun = noun_of(product["product_type"])
    facts = {
        "color": word(product["color"], COLORS),
        "type": noun.split()[-1],
        "material": word(product.get("material", ""), MATERIALS),
        "pattern": word(product.get("pattern", ""), PATTERNS),
        "shape": word(product.get("item_shape", ""), SHAPES),
        "counting": NUMBERS[number - 1] if 1 <= number <= len(NUMBERS) else "",
    }
    return {kind: answer for kind, answer in facts.items() if answer}


class OfflineAnnotator:
    """Asks about catalogue attributes.

    Args:
        products: every row that will be annotated: wrong alternatives for questions answered "no"
            are drawn from what occurs among them.
        questions: pairs an image.
        yes_share: share of "yes" among the yes/no questions.
        seed: with the image's id, decides everything random.
    """

    def __init__(
        self,
        products: list[dict[str, str]],
        questions: int,
        yes_share: float,
        seed: int,
    ) -> None:
        self.questions, self.yes_share, self.seed = questions, yes_share, seed
        self.values: dict[str, list[str]] = {}
        for product in products:
            for kind, answer in facts_of(product).items():
                self.values.setdefault(kind, []).append(answer)
        self.values = {kind: sorted(set(v)) for kind, v in self.values.items()}

    def annotate(self, product: Mapping[str, str]) -> list[Pair]:
        """Distinct pairs about one product, at most `questions` of them."""
        chance = random.Random(f"{self.seed}:{product['path']}")
        pairs: dict[str, Pair] = {}
        for pair in self.candidates(product, chance):
            pairs.setdefault(pair.question, pair)
            if len(pairs) == self.questions:
                break
        return list(pairs.values())

    def candidates(self, product: Mapping[str, str], chance: random.Random) -> Iterator[Pair]:
        """All pairs for a product, in a random order that favours no kind."""
        facts = facts_of(product)
        noun = noun_of(product["product_type"])
        kinds = [*facts, "yes/no"]
        chance.shuffle(kinds)
        for kind in [*kinds, "yes/no", "yes/no"]:
            if kind == "yes/no":
                yield self.yes_or_no(facts, noun, chance)
                continue
            template = chance.choice(QUESTIONS[kind])
            question = template.format(noun=noun, plural=plural_of(noun))
            if facts[kind] not in question.lower().rstrip("?").split():
                yield Pair(question, facts[kind], kind)

    def yes_or_no(self, facts: Mapping[str, str], noun: str, chance: random.Random) -> Pair:
        kind = chance.choice([k for k in YES_NO if k in facts])
        value, answer = facts[kind], "yes"
        if chance.random() >= self.yes_share:
            others = [v for v in self.values[kind] if v != value]
            if others:
                value, answer = chance.choice(others), "no"
        shown = noun if kind == "type" and answer == "yes" else value
        question = YES_NO[kind].format(noun=noun, value=shown)
        return Pair(re.sub(r"\ba (?=[aeiou])", "an ", question), answer, "yes/no")
