"""What the study takes on a T4: memory and hours by arithmetic, for no T4 has been measured.

    python benchmarks/t4.py              # the tables of docs/notebooks.md
    python benchmarks/t4.py --fraction 1 # hours for all rows

Parameters are counted from the checkpoints' shapes (`helpers/hub`); what a row takes follows from
layers, widths and tokens; operations are those that torch counted (docs/benchmarks.md), or two per
weight and token. The rates are shares of what the manufacturer states: guesses, and said to be so.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import yaml
from helpers.scratch import ROOT

from abo_vqa.commands.doctor.card_memory import CONTEXT, KNOWN_SIZES

# NVIDIA's data sheet: 65 TFLOPS in half precision, 320 GB/s; nvidia-smi shows 15,360 MiB.
PEAK, BANDWIDTH, CARD = 65e12, 320e9, 15_360 * 2**20
USED, USED_8BIT, USED_MEMORY = 0.3, 0.15, 0.7  # shares of them; 8 bits convert at each layer
STEP_S = 0.1  # a training step of BLIP: thousands of small kernels, whatever the card
PICTURE_S = 0.005 / 4  # decode and resize an image, on four cores
IMAGES, ROWS, TRAINED = 14_798, 45_482, 36_373  # the study's


@dataclass(frozen=True)
class Tower:
    """Layers that an image or a text goes through, once."""

    layers: int
    width: int
    mlp: int
    tokens: int
    kept: int = 0  # width of the keys, and of the values, that are kept of each layer
    gated: bool = False
    copies: int = 1  # of the keys and values, e.g. in an encoder and a decoder

    def row(self) -> float:
        """Bytes: the widest layer's temporary tensors, and keys and values."""
        wide = (3 if self.gated else 2) * self.mlp + (4 if self.gated else 8) * self.width
        stored = 2 * self.layers * self.kept * self.tokens * self.copies
        return 2.0 * (self.tokens * wide + stored)


@dataclass(frozen=True)
class Work:
    """A model's towers, and the operations of an image and of a row."""

    towers: tuple[Tower, ...]
    image: float
    row: float
    said: int  # tokens of an answer, for each of which the language model's weights are read
    language: float = 0.0  # its parameters

    def row_bytes(self) -> float:
        return sum(tower.row() for tower in self.towers)


def text(parameters: float, tokens: int) -> float:
    """Operations of a language model over some tokens."""
    return 2 * parameters * tokens


WORKS = {
    "blip": Work((Tower(12, 768, 3072, 577, kept=768, copies=2),), 111.0e9, 19.1e9, 3, 0.14e9),
    "blip2": Work(
        (Tower(39, 1408, 6144, 257), Tower(32, 2560, 10240, 52, kept=2560)),
        text(0.99e9, 257), text(2.65e9, 52), 3, 2.65e9,
    ),
    "clip": Work((Tower(12, 768, 3072, 50),), text(0.087e9, 50), text(0.038e9, 60), 0),
    "llava": Work(
        (Tower(24, 1024, 4096, 577), Tower(32, 4096, 11008, 605, kept=4096, gated=True)),
        text(0.30e9, 577) + text(6.74e9, 580), text(6.74e9, 25), 3, 6.74e9,
    ),
    "vilt": Work((Tower(12, 768, 3072, 185),), 0.0, text(0.087e9, 185), 0),
}  # fmt: skip


def weights_in(profile: dict, name: str) -> float:
    settings = profile["models"][name]
    return KNOWN_SIZES[settings["path"]].weights(settings.get("quantize"), 2)


def memory(profile: dict) -> list[list[str]]:
    """A line for each of the study's models, as the profile has it."""
    lines = []
    for name, work in WORKS.items():
        weights, size = weights_in(profile, name), profile["batch_sizes"][name]
        parts = [weights, size * work.row_bytes(), CONTEXT]
        quantize = profile["models"][name].get("quantize", "float16")
        cells = [f"{part / 1e9:.1f}" for part in (*parts, sum(parts))]
        lines.append([f"`{name}`", quantize, cells[0], f"{size} × {work.row_bytes() / 1e6:.0f} MB",
                      *cells[1:]])  # fmt: skip
    return lines


def training_memory() -> list[str]:
    """LoRA on BLIP: base in float32, adapter with AdamW's two moments, a batch's activations."""
    base, adapter = 0.385e9 * 4, 2.36e6 * 16
    # Of each image, keys and values of 24 layers and the inputs that they are computed from.
    activations = 8 * (2 * 24 * 577 * 768 * 2 + 577 * 768 * 4)
    total = base + adapter + activations + CONTEXT
    return ["`finetune`", "float32", f"{base / 1e9:.1f}", "8 rows",
            f"{(adapter + activations) / 1e9:.1f}", f"{CONTEXT / 1e9:.1f}",
            f"{total / 1e9:.1f}"]  # fmt: skip


def answering_hours(profile: dict, name: str, fraction: float) -> float:
    """Hours for a model's answers; an image's questions share it, if it comes up twice at all."""
    work, rows = WORKS[name], ROWS * fraction
    images = IMAGES * (1 - (1 - fraction) ** (ROWS / IMAGES))
    used = USED_8BIT if profile["models"][name].get("quantize") else USED
    computing = (images * work.image * (name != "blip") + rows * work.row) / (PEAK * used)
    width = weights_in(profile, name) / KNOWN_SIZES[profile["models"][name]["path"]].parameters
    reading = work.said * work.language * width / (BANDWIDTH * USED_MEMORY)
    saying = rows / profile["batch_sizes"][name] * reading
    return (computing + saying + images * PICTURE_S) / 3600


def hours(profile: dict, fraction: float) -> list[list[str]]:
    """A line for each stage that needs the card."""
    embed = IMAGES * (WORKS["blip"].image / (PEAK * USED) + PICTURE_S) / 3600
    lora = profile["defaults"]["lora"]
    training = lora["epochs"] * 0.9 * TRAINED / lora["batch_size"] * STEP_S / 3600
    lines = [("embed", embed, embed)]
    for name in WORKS:
        stage = "baseline@clip-…, each" if name == "clip" else f"baseline@{name}"
        lines.append((stage, *(answering_hours(profile, name, f) for f in (fraction, 1.0))))
    lines.append(("finetune", training, training))
    total = [sum((3 if "clip" in line[0] else 1) * line[i] for line in lines) for i in (1, 2)]
    lines.append(("all", *total))
    return [[f"`{name}`", f"{part:.2f}", f"{whole:.2f}"] for name, part, whole in lines]


def table(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fraction", type=float, default=0.1, help="default: %(default)s")
    fraction = parser.parse_args().fraction
    profile = yaml.safe_load((ROOT / "conf/profiles/t4.yaml").read_text(encoding="utf-8"))
    head = ["", "weights as", "weights, GB", "rows at a time", "rows, GB", "CUDA, GB", "together"]
    print(table(head, [*memory(profile), training_memory()]))
    print(f"\nA T4 has {CARD / 1e9:.1f} GB.\n")
    head = ["stage", f"{fraction:.0%} of the rows, h", "all rows, h"]
    print(table(head, hours(profile, fraction)))


if __name__ == "__main__":
    main()
