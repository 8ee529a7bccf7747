"""Rows of questions → answers, at any scale: batched, journaled, resumable, tolerant.

Batches are formed over all rows before anything else, so neither the number of processes nor an
interruption can change which rows share a batch, hence not a bit of an answer.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from abo_vqa.archive import ImageError
from abo_vqa.memory import out_of_memory, release_memory
from abo_vqa.models.base import Answer, VQAModel
from abo_vqa.refusals import storing

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.embed import EmbeddingStore

COLUMNS = ["row_id", "prediction", "confidence", "error"]


@dataclass(frozen=True)
class Encoded:
    """Some pictures as a model sees them.

    Attributes:
        values: one entry a readable picture, as `VQAModel.encode` returns them.
        place: path → its entry.
        errors: path → why it can't be read.
    """

    values: Any
    place: Mapping[str, int]
    errors: Mapping[str, str]


class Pictures(Protocol):
    """Where pictures come from: `load` reads (in the background), `encode` computes."""

    def load(self, paths: Sequence[str]) -> Any: ...

    def encode(self, model: VQAModel, loaded: Any) -> Encoded: ...


class Files:
    """Pictures decoded from files or an archive, and encoded by the model.

    Args:
        open_image: gives the RGB picture at a path, or raises `ImageError`.
    """

    def __init__(self, open_image: Callable[[str], Image]) -> None:
        self.open_image = open_image

    def load(self, paths: Sequence[str]) -> dict[str, Image | ImageError]:
        loaded: dict[str, Image | ImageError] = {}
        for path in paths:
            try:
                loaded[path] = self.open_image(path)
            except ImageError as error:
                loaded[path] = error
        return loaded

    def encode(self, model: VQAModel, loaded: Mapping[str, Image | ImageError]) -> Encoded:
        errors = {p: i.reason for p, i in loaded.items() if isinstance(i, ImageError)}
        read = {p: i for p, i in loaded.items() if not isinstance(i, ImageError)}
        errors |= {p: fault for p, image in read.items() if (fault := model.picture_fault(image))}
        images = {p: image for p, image in read.items() if p not in errors}
        values = model.encode(list(images.values())) if images else []
        return Encoded(values, {path: at for at, path in enumerate(images)}, errors)


class Stored:
    """Pictures whose encodings were computed before, e.g. an `abo_vqa.embed.EmbeddingStore`."""

    def __init__(self, store: EmbeddingStore) -> None:
        self.store = store

    def load(self, paths: Sequence[str]) -> Encoded:
        errors = {p: self.store.errors[p] for p in paths if p in self.store.errors}
        missing = [p for p in paths if p not in self.store.place]
        errors |= dict.fromkeys(missing, "not among the embedded pictures")
        good = [p for p in paths if p not in errors]
        return Encoded(self.store.get(good), {path: at for at, path in enumerate(good)}, errors)

    def encode(self, model: VQAModel, loaded: Encoded) -> Encoded:
        return loaded


class Once:
    """Pictures encoded once in all, in blocks of fixed composition, and kept.

    For models whose batches are made of questions, so that a picture comes back, and whose
    encodings are small enough to keep. Blocks are cut from the sorted paths, so that what a
    picture is encoded with doesn't depend on which rows are left to do.
    """

    def __init__(self, files: Files, paths: Sequence[str], block: int) -> None:
        self.files = files
        ordered = sorted(set(paths))
        self.blocks = [ordered[i : i + block] for i in range(0, len(ordered), block)]
        self.block_of = {path: b for b, block in enumerate(self.blocks) for path in block}
        self.values: dict[str, Any] = {}
        self.errors: dict[str, str] = {}

    def load(self, paths: Sequence[str]) -> Sequence[str]:
        return paths

    def encode(self, model: VQAModel, loaded: Sequence[str]) -> Encoded:
        import torch

        missing = {self.block_of[p] for p in loaded if p not in self.values | self.errors}
        for block in sorted(missing):
            encoded = self.files.encode(model, self.files.load(self.blocks[block]))
            self.values |= {path: encoded.values[at] for path, at in encoded.place.items()}
            self.errors |= encoded.errors
        paths = [p for p in dict.fromkeys(loaded) if p in self.values]
        values: Any = torch.stack([self.values[p] for p in paths]) if paths else []
        errors = {p: self.errors[p] for p in loaded if p in self.errors}
        return Encoded(values, {path: at for at, path in enumerate(paths)}, errors)


def batches(keys: Sequence[str], size: int) -> list[list[int]]:
    """Positions of rows in batches of at most `size`, rows with the same key together.

    Keys are taken in sorted order, so that the batches don't depend on the order of the rows'
    groups; a group larger than a batch is cut.
    """
    groups: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    formed: list[list[int]] = [[]]
    for key in sorted(groups):
        group = groups[key]
        if formed[-1] and len(formed[-1]) + len(group) > size:
            formed.append([])
        for start in range(0, len(group), size):
            if len(formed[-1]) >= size:
                formed.append([])
            formed[-1] += group[start : start + size]
    return [batch for batch in formed if batch]


class Journal:
    """Answers as they come, a line of JSON a batch, one file a process.

    A line is written whole or, if the process dies in it, is dropped on reading.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[int, Answer]:
        """All answers so far, of all processes, by row_id."""
        found: dict[int, Answer] = {}
        for file in sorted(self.folder.glob("answers-*.jsonl")):
            for line in file.read_bytes().splitlines():
                try:
                    rows = {row_id: Answer(*answer) for row_id, *answer in json.loads(line)}
                except (ValueError, TypeError):
                    continue  # the line a killed process was writing, or what a damaged disk left
                found |= rows
        return found

    def writer(self, rank: int) -> Callable[[Sequence[int], Sequence[Answer]], None]:
        """A function that appends a batch's answers to this process's file."""
        file = self.folder / f"answers-{rank}.jsonl"
        torn = file.exists() and not file.read_bytes().endswith(b"\n")
        handle = file.open("ab", buffering=0)  # nothing is left to be written when the disk is full

        def put(content: bytes) -> None:
            left = memoryview(content)
            with storing(file, len(content)):
                while left:
                    left = left[handle.write(left) or 0 :]

        if torn:
            put(b"\n")

        def write(row_ids: Sequence[int], answers: Sequence[Answer]) -> None:
            rows = [
                [r, a.text, None if a.confidence is None else round(a.confidence, 6), a.error]
                for r, a in zip(row_ids, answers, strict=True)
            ]
            put(json.dumps(rows, ensure_ascii=False).encode() + b"\n")
            os.fsync(handle.fileno())

        return write


class Halving:
    """Answer batches of rows, in halves from the moment memory runs out."""

    def __init__(self, model: VQAModel, pictures: Pictures) -> None:
        self.model = model
        self.pictures = pictures
        self.limit: int | None = None  # rows that are known not to fit, halved

    def answer(self, rows: pd.DataFrame, loaded: Any = None) -> list[Answer]:
        """Answers to rows (image_path, question), in order."""
        if self.limit is not None and len(rows) > self.limit:
            parts = [rows[i : i + self.limit] for i in range(0, len(rows), self.limit)]
            return [answer for part in parts for answer in self.answer(part)]
        try:
            if loaded is None:
                loaded = self.pictures.load(list(dict.fromkeys(rows["image_path"])))
            return self.once(rows, loaded)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(rows) == 1:
                return [Answer("", None, "out of memory")]
        # Outside the handler: the exception holds on to the frames, and these to the memory.
        loaded = None
        release_memory()
        self.limit = (len(rows) + 1) // 2
        print(f"out of memory: going on with {self.limit} rows a batch", file=sys.stderr)
        return self.answer(rows)

    def once(self, rows: pd.DataFrame, loaded: Any) -> list[Answer]:
        encoded = self.pictures.encode(self.model, loaded)
        paths, questions = rows["image_path"].tolist(), rows["question"].tolist()
        # A row that can't be answered costs itself, never its batch.
        faults = self.model.faults(questions)
        answers = [
            Answer("", None, encoded.errors.get(path, "") or fault)
            for path, fault in zip(paths, faults, strict=True)
        ]
        good = [i for i, answer in enumerate(answers) if not answer.error]
        if good:
            which = [encoded.place[paths[i]] for i in good]
            said = self.model.answer_encoded(encoded.values, which, [questions[i] for i in good])
            for i, answer in zip(good, said, strict=True):
                answers[i] = answer
        return answers


def answer_rows(
    model: VQAModel,
    rows: pd.DataFrame,
    pictures: Pictures,
    journal_folder: Path,
    size: int,
    rank: int = 0,
    world: int = 1,
) -> None:
    """Answer this process's share of the batches, except those already in the journal.

    Args:
        rows: columns row_id, image_path, question.
        size: rows a batch at most.
        rank, world: this process takes every `world`-th batch, beginning with the `rank`-th.
    """
    journal = Journal(journal_folder)
    done = journal.read()
    keys = rows["image_path" if model.groups_by == "picture" else "question"]
    formed = batches(keys.tolist(), size)
    row_ids = rows["row_id"].astype(int).tolist()
    mine = [b for b in formed[rank::world] if any(row_ids[i] not in done for i in b)]
    write = journal.writer(rank)
    halving = Halving(model, pictures)
    with progress_bar(len(rows), len(rows) - sum(map(len, mine)) * world, rank) as bar:
        for batch, loaded in ahead(mine, lambda b: pictures.load(paths_of(rows, b))):
            answers = halving.answer(rows.iloc[batch], loaded)
            write([row_ids[i] for i in batch], answers)
            bar.update(len(batch) * world)


def paths_of(rows: pd.DataFrame, batch: Sequence[int]) -> list[str]:
    return list(dict.fromkeys(rows["image_path"].iloc[list(batch)]))


def ahead(
    items: Sequence[list[int]], load: Callable[[list[int]], Any]
) -> Iterator[tuple[list[int], Any]]:
    """Each item with what `load` gives for it, the next one loading meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(load, items[0]) if items else None
        for i, item in enumerate(items):
            assert waiting is not None
            loaded = waiting.result()
            waiting = pool.submit(load, items[i + 1]) if i + 1 < len(items) else None
            yield item, loaded


def progress_bar(total: int, done: int, rank: int) -> Any:
    """Rows a second and time left, on the first process; in a log a line every 10 s."""
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 10.0
    done = max(0, min(done, total))
    return tqdm(
        total=total,
        initial=done,
        unit="row",
        desc="answering",
        mininterval=interval,
        disable=rank != 0,
    )


def collect(rows: pd.DataFrame, journal_folder: Path) -> pd.DataFrame | None:
    """The journal's answers in the order of `rows`, or None while some are missing.

    Returns:
        Columns row_id, prediction, confidence (a text, empty where there is none), error.
    """
    done = Journal(journal_folder).read()
    row_ids = rows["row_id"].astype(int).tolist()
    if any(row_id not in done for row_id in row_ids):
        return None
    answers = [done[row_id] for row_id in row_ids]
    return pd.DataFrame(
        {
            "row_id": row_ids,
            "prediction": [one_line(a.text) for a in answers],
            "confidence": ["" if a.confidence is None else f"{a.confidence:.6f}" for a in answers],
            "error": [a.error for a in answers],
        },
        columns=COLUMNS,
    )


def one_line(text: str) -> str:
    """An answer without line breaks and other control characters, which break tables."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
