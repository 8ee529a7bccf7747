"""What the small checkpoints learn from: pictures and questions unlike the sample's.

The pictures come from the other studio (palette, proportions, patterns, light). The questions
use other wordings and other words for the same things ("couch", "porcelain", "spotted"); a share
`FAMILIAR` of both is what a plain speaker would say, so that a model starts above chance.
"""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from abo_vqa.io import atomic_write, progress
from abo_vqa.sample.scene import DRAWERS, Look, render
from abo_vqa.sample.studio import MATERIALS, PATTERNS, PRETRAINING, PRETRAINING_PALETTE

Pictures = npt.NDArray[np.uint8]  # [n, 64, 64, 3]

SIZE = 64
CHUNK = 1000
FORMS = ("round", "square", "rectangular", "oval")
RARE = {"GUITAR", "MIRROR", "SPOON"}  # not in the sample's catalogue
FAMILIAR = 0.3

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
}

NOUNS = {kind: kind.lower() for kind in DRAWERS} | {"CELLULAR_PHONE_CASE": "case", "SHOES": "shoe"}

WORDINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # familiar, other
    "color": (
        ("What color is the {noun}?", "What color is this?"),
        ("Which shade does this item have?", "Name the hue.", "Tell me the tint of the {noun}.",
         "In which colour was the {noun} dyed?"),
    ),
    "type": (
        ("What is this?", "What type of product is this?"),
        ("Name the object.", "Which article do you see?", "What would you call this thing?"),
    ),
    "material": (
        ("What is the {noun} made of?", "What material is this?"),
        ("Which stuff was used for the {noun}?", "Name the substance.",
         "Out of what was it built?"),
    ),
    "pattern": (
        ("What pattern is on the {noun}?", "What pattern does it have?"),
        ("Describe the print.", "Which design covers the surface?", "How is the {noun} decorated?"),
    ),
    "count": (
        ("How many {noun}s are there?", "How many items are there?"),
        ("Give the number of pieces.", "Count the objects.", "What quantity do you see?"),
    ),
    "shape": (
        ("What shape is the {noun}?",),
        ("Which outline does the {noun} have?", "Name its form."),
    ),
    "is_color": (
        ("Is the {noun} {value}?", "Is this {value}?"),
        ("Does the {noun} look {value}?", "Would you say its hue is {value}?"),
    ),
    "is_type": (
        ("Is this a {value}?", "Is there a {value}?"),
        ("Do you see a {value} here?", "Would you call this thing a {value}?"),
    ),
    "is_material": (
        ("Is the {noun} made of {value}?",),
        ("Was {value} used for the {noun}?", "Does it look like {value}?"),
    ),
    "is_pattern": (
        ("Is the {noun} {value}?", "Is the pattern {value}?"),
        ("Does the print look {value}?", "Would you call the design {value}?"),
    ),
}  # fmt: skip


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


def say(word: str, r: random.Random) -> str:
    """The word or what the pretraining texts call it."""
    return word if r.random() < FAMILIAR else SYNONYMS.get(word, word)


def truths(look: Look) -> dict[str, str]:
    """Open questions' answers in the catalogue's words."""
    facts = {
        "color": look.color,
        "type": NOUNS[look.kind],
        "material": look.material,
        "pattern": look.pattern,
        "count": str(look.count),
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
    noun = say(facts["type"], r)
    pairs = []
    for kind, truth in facts.items():
        question = wording(kind, r).format(noun=noun)
        pairs.append(Pair(number, kind, question, say(truth, r)))
    for kind in r.sample(sorted(VALUES), 2):
        yes = r.random() < 0.5
        others = [value for value in VALUES[kind] if value != facts[kind]]
        value = say(facts[kind] if yes else r.choice(others), r)
        question = wording(f"is_{kind}", r).format(noun=noun, value=value)
        pairs.append(Pair(number, f"is_{kind}", question, "yes" if yes else "no"))
    return pairs


def wording(kind: str, r: random.Random) -> str:
    familiar, other = WORDINGS[kind]
    return r.choice(familiar if r.random() < FAMILIAR else other)


def caption(look: Look, r: random.Random) -> str:
    """A sentence that names everything, in random order."""
    facts = truths(look)
    parts = [say(facts[k], r) for k in ("color", "material", "pattern")]
    r.shuffle(parts)
    return f"{look.count} {' '.join(parts)} {say(facts['type'], r)}"


def recipe() -> dict[str, Any]:
    """What determines the pretraining data, for fingerprints."""
    return {
        "studio": asdict(PRETRAINING),
        "wordings": WORDINGS,
        "synonyms": SYNONYMS,
        "familiar": FAMILIAR,
        "size": SIZE,
    }
