"""The data that the small checkpoints are trained on: images and questions unlike the sample's.

The images come from the other studio (palette, proportions, patterns, light). The questions
use other wordings, and mostly other words for the same things ("couch", "porcelain", "spotted").
"""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from abo_vqa.core.files import atomic_write
from abo_vqa.core.progress import progress
from sample.scene import DRAWERS, Look, render
from sample.studio import MATERIALS, PATTERNS, PRETRAINING, PRETRAINING_PALETTE

Pictures = npt.NDArray[np.uint8]  # [n, 64, 64, 3]

SIZE = 64
CHUNK = 1000
FORMS = ("round", "square", "rectangular", "oval")
RARE = {"GUITAR", "MIRROR", "SPOON"}  # not in the sample's catalogue
TERSE = 0.4
SLIPS = 0.12

# Catalogue word -> what people in the pretraining texts call it.
SYNONYMS = {
    "backpack": "rucksack",
    "bottle": "flask",
    "bowl": "basin",
    "chair": "seat",
    "handbag": "purse",
    "hat": "cap",
    "kettle": "teapot",
    "keychain": "fob",
    "lamp": "light",
    "mug": "cup",
    "pillow": "cushion",
    "plate": "dish",
    "rug": "carpet",
    "shelf": "bookcase",
    "shoe": "sneaker",
    "sofa": "couch",
    "stool": "barstool",
    "suitcase": "trolley",
    "table": "desk",
    "umbrella": "parasol",
    "vase": "urn",
    "watch": "wristwatch",
    "wood": "timber",
    "metal": "steel",
    "glass": "crystal",
    "plastic": "polymer",
    "ceramic": "porcelain",
    "leather": "hide",
    "fabric": "cloth",
    "solid": "plain",
    "striped": "stripes",
    "dotted": "spotted",
    "checkered": "checked",
    "floral": "flowery",
    "gray": "grey",
    "red": "crimson",
    "blue": "azure",
    "purple": "violet",
    "orange": "amber",
    "brown": "chestnut",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
}

NUMBERS = ("zero", "one", "two", "three", "four", "five")

NOUNS = {kind: kind.lower() for kind in DRAWERS} | {"CELLULAR_PHONE_CASE": "case", "SHOES": "shoe"}

# Two registers: the terse one of a search box, which uses the catalogue's words, and a talkative
# one, which uses the others. That they differ in form is what lets a model tell the words apart:
# two words chosen at random would share one place in its vocabulary for good.
WORDINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # terse, talkative
    "color": (
        ("color of {noun}", "{noun} color", "color"),
        (
            "Which shade does this item have?",
            "Name the hue.",
            "Tell me the tint of the {noun}.",
            "What color is this item?",
        ),
    ),
    "type": (
        ("type of product", "product type", "kind"),
        (
            "Name the object.",
            "Which article do you see?",
            "What would you call this thing?",
            "What is this?",
        ),
    ),
    "material": (
        ("material of {noun}", "{noun} material", "made of"),
        (
            "Which stuff was used for the {noun}?",
            "Out of what was the {noun} made?",
            "What substance is this?",
        ),
    ),
    "pattern": (
        ("pattern of {noun}", "{noun} pattern", "pattern"),
        (
            "Describe the print.",
            "Which design covers the surface?",
            "What print is on the {noun}?",
        ),
    ),
    "count": (
        ("number of {plural}", "how many {plural}", "count"),
        (
            "Give the number of pieces.",
            "Count the objects.",
            "What quantity of {plural} do you see?",
            "How many items are there?",
        ),
    ),
    "shape": (
        ("shape of {noun}", "{noun} shape"),
        ("Which outline does the {noun} have?", "Name its form.", "What form is this item?"),
    ),
    "is_color": (
        ("{value} {noun}, yes or no", "{noun} color {value}"),
        ("Does the {noun} look {value}?", "Is its hue {value}?", "Is the item {value}?"),
    ),
    "is_type": (
        ("{value}, yes or no", "product type {value}"),
        ("Do you see a {value} here?", "Is this thing a {value}?"),
    ),
    "is_material": (
        ("{noun} of {value}, yes or no", "material {value}"),
        ("Was {value} used for the {noun}?", "Is the item made of {value}?"),
    ),
    "is_pattern": (
        ("{value} {noun}, yes or no", "pattern {value}"),
        ("Does the print look {value}?", "Is the design {value}?"),
    ),
}


@dataclass(frozen=True)
class Pair:
    """A question about picture number `picture`, and its one-word answer."""

    picture: int
    kind: str
    question: str
    answer: str


def draw_look(r: random.Random) -> Look:
    """A product of the pretraining distribution, every property independent of the others."""
    kinds = [kind for kind in DRAWERS if kind not in RARE or r.random() < 0.3]
    return Look(
        kind=r.choice(kinds),
        color=r.choice(list(PRETRAINING_PALETTE)),
        material=r.choice(MATERIALS),
        pattern=r.choice((*PATTERNS, "solid")),
        form=r.choice(FORMS),
        count=r.choice((1, 1, 2, 3, 4, 5)),
        shape_seed=r.getrandbits(31),
        view_seed=r.getrandbits(31),
    )


def draw_looks(n: int, seed: int) -> list[Look]:
    """Draw n products."""
    r = random.Random(seed)
    return [draw_look(r) for _ in range(n)]


def draw_chunk(looks: list[Look]) -> Pictures:
    """Pictures of the looks, [n, 64, 64, 3] uint8."""
    return np.stack([np.asarray(render(look, SIZE, PRETRAINING)) for look in looks])


def pictures(looks: list[Look], folder: Path, workers: int) -> Pictures:
    """Pictures of all looks, memory-mapped; drawn in chunks that outlive an interruption."""
    whole = folder / "pictures.npy"
    if not whole.is_file():
        starts = range(0, len(looks), CHUNK)
        missing = [s for s in starts if not (folder / f"chunk-{s}.npy").is_file()]
        with ProcessPoolExecutor(workers) as pool:
            drawn = pool.map(draw_chunk, (looks[s : s + CHUNK] for s in missing))
            bar = progress(
                zip(missing, drawn, strict=True), total=len(missing), desc="drawing", unit="k"
            )
            for start, chunk in bar:
                with atomic_write(folder / f"chunk-{start}.npy") as path:
                    np.save(path, chunk)
        with atomic_write(whole) as path:
            np.save(path, np.concatenate([np.load(folder / f"chunk-{s}.npy") for s in starts]))
        for start in starts:
            (folder / f"chunk-{start}.npy").unlink()
    mapped: Pictures = np.load(whole, mmap_mode="r")
    return mapped


class Register:
    """One asker's way of speaking: terse or talkative, now and then in the other's words."""

    def __init__(self, r: random.Random) -> None:
        self.r, self.terse = r, r.random() < TERSE

    def slips(self) -> bool:
        """Whether to use the other register this time."""
        return self.r.random() < SLIPS

    def say(self, word: str) -> str:
        """The catalogue's word, or the talkative asker's."""
        return word if self.terse != self.slips() else SYNONYMS.get(word, word)

    def wording(self, kind: str) -> str:
        """A question template of a kind."""
        terse, talkative = WORDINGS[kind]
        return self.r.choice(terse if self.terse != self.slips() else talkative)


def truths(look: Look) -> dict[str, str]:
    """Open questions' answers in the catalogue's words."""
    facts = {
        "color": look.color,
        "type": NOUNS[look.kind],
        "material": look.material,
        "pattern": look.pattern,
        "count": NUMBERS[look.count],
    }
    if look.kind in {"CLOCK", "MIRROR", "PILLOW", "PLATE", "RUG", "TABLE"}:
        facts["shape"] = drawn_form(look)
    return facts


def drawn_form(look: Look) -> str:
    """What a form is drawn as: each drawer knows some forms and has a default."""
    known = {
        "CLOCK": ("square", "round"),
        "PLATE": ("square", "round"),
        "TABLE": ("round", "rectangular"),
        "RUG": ("round", "oval", "rectangular"),
        "MIRROR": ("round", "oval", "rectangular"),
        "PILLOW": ("round", "square", "rectangular"),
    }[look.kind]
    return look.form if look.form in known else known[-1]


VALUES: dict[str, tuple[str, ...]] = {
    "color": tuple(PRETRAINING_PALETTE),
    "type": tuple(sorted(NOUNS.values())),
    "material": MATERIALS,
    "pattern": PATTERNS,
}


def ask(number: int, look: Look, r: random.Random) -> list[Pair]:
    """Every open question about a picture and two yes/no questions, half of them true."""
    facts = truths(look)
    asker = Register(r)
    noun = asker.say(facts["type"])
    names = {"noun": noun, "plural": plural(noun)}
    pairs = []
    for kind, truth in facts.items():
        question = asker.wording(kind).format(**names)
        pairs.append(Pair(number, kind, question, asker.say(truth)))
    for kind in r.sample(sorted(VALUES), 2):
        yes = r.random() < 0.5
        others = [value for value in VALUES[kind] if value != facts[kind]]
        value = asker.say(facts[kind] if yes else r.choice(others))
        question = asker.wording(f"is_{kind}").format(value=value, **names)
        pairs.append(Pair(number, f"is_{kind}", question, "yes" if yes else "no"))
    return pairs


def plural(noun: str) -> str:
    """The regular English plural."""
    if noun.endswith("lf"):
        return noun[:-1] + "ves"
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s")


def caption(look: Look, r: random.Random) -> str:
    """A sentence that names everything, in random order."""
    facts, asker = truths(look), Register(r)
    parts = [asker.say(facts[k]) for k in ("color", "material", "pattern")]
    r.shuffle(parts)
    return f"{asker.say(facts['count'])} {' '.join(parts)} {asker.say(facts['type'])}"


def recipe() -> dict[str, Any]:
    """What determines the pretraining data, for fingerprints."""
    return {
        "studio": asdict(PRETRAINING),
        "wordings": WORDINGS,
        "synonyms": SYNONYMS,
        "terse": TERSE,
        "slips": SLIPS,
        "size": SIZE,
    }
