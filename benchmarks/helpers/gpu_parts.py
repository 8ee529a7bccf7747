"""What `benchmarks/gpu.py` measures of a family: its exactness, and its speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from helpers.card import Step, fits, largest, matrix_rate, measure
from helpers.families import FAMILIES, WORDS, Family, bytes_of
from helpers.real_size import QUESTIONS, operations, photographs

from abo_vqa.core.memory import out_of_memory, release_memory

ALL_ROWS, ALL_PICTURES = 45_482, 14_798  # of the study's table
QUESTION_KINDS = 15_639  # distinct questions in it
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
STUDY, PREPARED = "the study's loop", "the study's loop, images prepared ahead"
TOGETHER, ENCODED = "vision once per image", "vision outputs at hand"
AHEAD = "vision once per image, prepared ahead"
ENCODING, PREPARING = "encoding prepared images", "preparing images, on the processor"
# Targets on a GPU, as a multiple of the study's loop.
WANTED = {("blip", ENCODED): 15, ("clip-1800", TOGETHER): 35, ("llava", TOGETHER): 5}
ROOM = 1.15  # bytes on the card for each of the weights, at least
FEW = 6  # rows that equality is told from, at least


class TooLargeError(Exception):
    """A model doesn't fit this card."""


@dataclass
class Bench:
    """The machine, and how long the part at hand may take.

    Attributes:
        dtype: the one that production picks on this device.
        size: "real" or "tiny". until: when the part should end (`time.perf_counter`).
    """

    device: torch.device
    dtype: torch.dtype
    size: str
    until: float = 0.0
    rates: dict[torch.dtype, float] = field(default_factory=dict)

    def rate(self, dtype: torch.dtype) -> float:
        """Operations a second of a large matrix product."""
        if dtype not in self.rates:
            size, seconds = (8192, 0.5) if self.size == "real" else (64, 0.01)
            self.rates[dtype] = matrix_rate(self.device, dtype, size, seconds)
        return self.rates[dtype]

    @property
    def each(self) -> float:
        """Maximum seconds per measurement; small models only test the script."""
        return float("inf") if self.size == "real" else 0.05

    @property
    def left(self) -> float:
        return max(self.until - time.perf_counter(), 0.0)

    def make(self, family: Family, dtype: torch.dtype) -> Any:
        """A family's model, if the card has room for it.

        Raises:
            TooLarge: it hasn't.
        """
        needed = bytes_of(family, self.size, dtype)
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0]
            if ROOM * needed > free:
                raise TooLargeError(f"weights of {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB free")
        return family.make(self.size, self.device, dtype)

    def way(
        self, name: str, step: Step, rows: int, seconds: float, dtype: torch.dtype
    ) -> dict[str, Any]:
        """Rows a second of a step, its peak memory, and its share of the device's peak."""
        counted = operations(step) / rows  # warms up, too
        found = measure(step, rows, self.device, min(seconds, self.each))
        return {
            "way": name,
            "dtype": short(dtype),
            "rows": rows,
            "steps": found.steps,
            "rows_per_second": found.speed,
            "peak_bytes": found.peak_bytes,
            "gflop_per_row": counted / 1e9,
            "share_of_peak": counted * found.speed / self.rate(dtype),
        }


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def asked(rows: int, distinct: bool) -> list[str]:
    """Questions of different lengths; with `distinct` no two alike."""
    some = [QUESTIONS[(i * 5 + i // 3) % len(QUESTIONS)] for i in range(rows)]
    if not distinct:
        return some
    behind = [f"{WORDS[i % len(WORDS)]} {WORDS[i // len(WORDS) % len(WORDS)]}" for i in range(rows)]
    return [f"{question} {words}" for question, words in zip(some, behind, strict=True)]


def repeated(encoded: Any, count: int) -> Any:
    """Encoded pictures over and over, as `encode` gives them."""
    again = [i % len(encoded) for i in range(count)]
    if isinstance(encoded, torch.Tensor):
        return encoded[torch.tensor(again, device=encoded.device)]
    return [encoded[i] for i in again]


# ---- a family


def family_part(name: str, bench: Bench, save: Callable[[dict[str, Any]], None]) -> None:
    """Exactness in three dtypes, then speed in the one that production picks; `save`s as it goes.

    Raises:
        TooLarge: the card has no room for production's dtype.
    """
    family = FAMILIES[name]
    exact: list[dict[str, Any]] = []
    share, reference = 0.45 * bench.left / len(DTYPES), None
    for dtype in DTYPES:
        entry: dict[str, Any] = {"dtype": short(dtype)}
        try:
            rows = list(exactly(family, bench.make(family, dtype), min(share, 2 * bench.each)))
            entry |= compared(rows, reference)
            reference = rows if dtype == torch.float32 else reference
        except TooLargeError as error:
            entry["reason"] = f"doesn't fit this card: {error}"
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            entry["reason"] = "doesn't fit this card: out of memory"
        exact.append(entry)
        save({"exactness": exact})
        release_memory()
    measured = clip_speed if name.startswith("clip") else speed
    measured(family, bench.make(family, bench.dtype), bench, save)


def exactly(family: Family, model: Any, seconds: float) -> Iterator[tuple[str, str]]:
    """The library's answer to each of some rows, one by one, and ours, all in one batch."""
    pictures = photographs(8)
    images = [picture for picture in pictures for _ in range(3)]
    questions = asked(len(images), distinct=False)
    ends, library = time.perf_counter() + 0.8 * seconds, []
    for image, question in zip(images, questions, strict=True):
        library.append(family.say(model, family.inputs(model, image, question)))
        if time.perf_counter() > ends and len(library) >= FEW:
            break
    rows = len(library)
    ours = [answer.text for answer in model.answer(images[:rows], questions[:rows])]
    return zip(library, ours, strict=True)


def compared(
    rows: Sequence[tuple[str, str]], reference: Sequence[tuple[str, str]] | None
) -> dict[str, Any]:
    """Shares of equal answers: ours and the library's, and either and the library's in float32.

    With random weights answers are close calls, and rounding alone changes some: the library's own
    share says how many.
    """
    found: dict[str, Any] = {
        "rows": len(rows),
        "different_answers": len({library for library, _ in rows}),
        "equal": sum(a == b for a, b in rows) / len(rows),
    }
    if reference is not None:
        both = list(zip(rows, reference, strict=False))
        found["library_as_float32"] = sum(r[0] == f[0] for r, f in both) / len(both)
        found["ours_as_float32"] = sum(r[1] == f[0] for r, f in both) / len(both)
    return found


def study_ways(
    family: Family, model: Any, bench: Bench, seconds: float, questions: Sequence[str]
) -> list[dict[str, Any]]:
    """The study's loop, a row at a time; as it was, and with its pictures prepared ahead."""
    images = photographs(4)
    rows = [(images[i % 4], questions[i % len(questions)]) for i in range(8)]
    ready = [family.inputs(model, *row) for row in rows]
    turn = iter(range(10**9))

    def plainly() -> str:
        return family.say(model, family.inputs(model, *rows[next(turn) % len(rows)]))

    def prepared() -> str:
        return family.say(model, ready[next(turn) % len(rows)])

    return [
        bench.way(name, step, 1, seconds, bench.dtype)
        for name, step in ((STUDY, plainly), (PREPARED, prepared))
    ]


def speed(family: Family, model: Any, bench: Bench, save: Callable[[dict[str, Any]], None]) -> None:
    """Ours against the study's loop, and the largest batch."""
    share, spare = 0.8 * bench.left / 8, 0.1 * bench.left
    ways = study_ways(family, model, bench, share, asked(8, distinct=False))
    save({"ways": ways})
    photos = photographs(8)
    kept = model.encode_images(photos)
    if family.name == "blip":  # as the stage `embed` keeps them
        kept = kept.to("cpu", torch.float16)
    wanted = model.checkpoint.batch_size if bench.size == "real" else 6

    def answering(rows: int) -> Step:
        image_index = [i // 3 for i in range(rows)]
        stored = repeated(kept, image_index[-1] + 1)
        return partial(model.predict_answers, stored, image_index, asked(rows, distinct=False))

    batch = wanted
    while not fits(answering(batch), bench.device) and batch > 1:
        batch //= 2
    pictures = [photos[i % len(photos)].copy() for i in range(-(-batch // 3))]
    images = [pictures[i // 3] for i in range(batch)]
    steps: dict[str, tuple[Step, int]] = {
        TOGETHER: (partial(model.answer, images, asked(batch, distinct=False)), batch),
        AHEAD: (ahead(model, pictures, batch), batch),
        ENCODED: (answering(batch), batch),
        **encoding(model, pictures),
    }
    for name, (step, rows) in steps.items():
        ways.append(bench.way(name, step, rows, share, bench.dtype))
        save({"ways": ratios(ways, family.name), "hours": hours(ways, family.name)})
    limit = 16_384 if bench.size == "real" else 24
    most, ended = largest(answering, batch, limit, bench.device, max(spare, bench.left))
    save({"largest": [{"way": ENCODED, "rows": most, "ended_by": ended, "profile": wanted}]})


def ahead(model: Any, pictures: Sequence[Any], rows: int) -> Step:
    """What the stage does once its other thread has prepared the pictures."""
    prepared = model.preprocess(pictures)
    image_index = [i // 3 for i in range(rows)]
    questions = asked(rows, distinct=False)
    return lambda: model.predict_answers(model.encode(prepared), image_index, questions)


def encoding(model: Any, pictures: Sequence[Any]) -> dict[str, tuple[Step, int]]:
    """The two parts of encoding pictures: one on the processor, one on the device."""
    prepared = model.preprocess(pictures)
    return {
        PREPARING: (partial(model.preprocess, pictures), len(pictures)),
        ENCODING: (partial(model.encode, prepared), len(pictures)),
    }


def clip_speed(
    family: Family, model: Any, bench: Bench, save: Callable[[dict[str, Any]], None]
) -> None:
    """CLIP: rows with as many questions, since a question's sentences are all the work."""
    share = 0.9 * bench.left / 5
    rows = 64 if bench.size == "real" else 6
    questions = asked(rows, distinct=True)
    ways = study_ways(family, model, bench, share, questions)
    save({"ways": ways})
    pictures = [picture.copy() for picture in photographs(rows)]
    steps = {
        TOGETHER: (partial(model.answer, pictures, questions), rows),
        **encoding(model, pictures),
    }
    for name, (step, _) in steps.items():
        ways.append(bench.way(name, step, rows, share, bench.dtype))
        save({"ways": ratios(ways, family.name), "hours": hours(ways, family.name)})
    # What a pass reads is bounded, so more rows take no more memory.
    save({"largest": [{"way": TOGETHER, "tokens": model.text.max_tokens, "ended_by": "passes"}]})


def ratios(ways: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Each of our ways as a multiple of the study's loop, and what is wanted of it."""
    speeds = {way["way"]: way["rows_per_second"] for way in ways}
    for way in ways:
        if way["way"] in (TOGETHER, AHEAD, ENCODED):
            way["ratio"] = way["rows_per_second"] / speeds[STUDY]
            way["ratio_to_prepared"] = way["rows_per_second"] / speeds[PREPARED]
            way["wanted"] = WANTED.get((name, way["way"]))
    return ways


def hours(ways: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """Hours for all rows of the study's table: its loop's, and ours."""
    speeds = {way["way"]: way["rows_per_second"] for way in ways}
    rows = QUESTION_KINDS if name.startswith("clip") else ALL_ROWS
    by_way = {STUDY: ALL_ROWS / speeds[STUDY] / 3600}
    by_way |= {way: rows / speeds[way] / 3600 for way in (TOGETHER, AHEAD) if way in speeds}
    if name == "blip" and {ENCODED, PREPARING, ENCODING} <= set(speeds):
        # Pictures are prepared beside the encoding: the slower one counts.
        pictures = ALL_PICTURES / min(speeds[PREPARING], speeds[ENCODING])
        by_way["the store, then the answers"] = (pictures + ALL_ROWS / speeds[ENCODED]) / 3600
    return by_way
