"""Where a model's pictures come from: files, kept vision outputs; read and prepared ahead."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.core.processes import cores
from abo_vqa.data.image_files import ImageError
from abo_vqa.models.base import VQAModel

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.models.embeddings.store import EmbeddingStore

CHUNK = 8  # pictures that a thread prepares at a time
_MOST_THREADS = 8  # more would feed a GPU no faster than it takes

_Item = TypeVar("_Item")
_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True)
class PictureBatch:
    """Something computed of some pictures, prepared or encoded.

    Attributes:
        values: one entry a readable picture, as `VQAModel.prepare` or `see` returns them.
        place: path → its entry.
        errors: path → why it can't be read.
    """

    values: Any
    place: Mapping[str, int]
    errors: Mapping[str, str]

    def only(self, paths: Sequence[str]) -> PictureBatch:
        """The part of it that concerns some of the pictures."""
        good = [path for path in paths if path in self.place]
        errors = {path: self.errors[path] for path in paths if path in self.errors}
        places = [self.place[path] for path in good]
        everything = places == list(range(len(self.place)))
        values = self.values if everything else _entries(self.values, places)
        return PictureBatch(values, {path: at for at, path in enumerate(good)}, errors)


class Pictures(Protocol):
    """Where pictures come from: `load` reads (in the background), `encode` computes."""

    def load(self, model: VQAModel, paths: Sequence[str]) -> Any: ...

    def part(self, loaded: Any, paths: Sequence[str]) -> Any: ...

    def encode(self, model: VQAModel, loaded: Any) -> PictureBatch: ...


class PictureFiles:
    """Pictures decoded from files or an archive, prepared, and encoded by the model.

    Args:
        open_image: gives the RGB picture at a path, or raises `ImageError`; from any thread.
        threads: that decode and prepare; by default as the machine has cores. The numbers are the
            same for any.
    """

    def __init__(self, open_image: Callable[[str], Image], threads: int | None = None) -> None:
        self.open_image = open_image
        threads = usual_threads() if threads is None else threads
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def load(self, model: VQAModel, paths: Sequence[str]) -> PictureBatch:
        if self.pool is None or len(paths) <= CHUNK:
            return self.prepare(model, paths)
        chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
        return joined(list(self.pool.map(lambda chunk: self.prepare(model, chunk), chunks)))

    def prepare(self, model: VQAModel, paths: Sequence[str]) -> PictureBatch:
        images: dict[str, Image] = {}
        errors: dict[str, str] = {}
        for path in paths:
            try:
                image = self.open_image(path)
            except ImageError as error:
                errors[path] = error.reason
                continue
            if fault := model.image_error(image):
                errors[path] = fault
            else:
                images[path] = image
        values = model.preprocess(list(images.values())) if images else []
        return PictureBatch(values, {path: at for at, path in enumerate(images)}, errors)

    def part(self, loaded: PictureBatch, paths: Sequence[str]) -> PictureBatch:
        return loaded.only(paths)

    def encode(self, model: VQAModel, loaded: PictureBatch) -> PictureBatch:
        values = model.encode(loaded.values) if loaded.place else []
        return PictureBatch(values, loaded.place, loaded.errors)


class EmbeddedPictures:
    """Pictures whose encodings were computed before: an `EmbeddingStore`."""

    def __init__(self, store: EmbeddingStore) -> None:
        self.store = store

    def load(self, model: VQAModel, paths: Sequence[str]) -> PictureBatch:
        errors = {p: self.store.errors[p] for p in paths if p in self.store.errors}
        missing = [p for p in paths if p not in self.store.place]
        errors |= dict.fromkeys(missing, "not among the embedded pictures")
        good = [p for p in paths if p not in errors]
        return PictureBatch(
            self.store.get(good), {path: at for at, path in enumerate(good)}, errors
        )

    def part(self, loaded: PictureBatch, paths: Sequence[str]) -> PictureBatch:
        return loaded.only(paths)

    def encode(self, model: VQAModel, loaded: PictureBatch) -> PictureBatch:
        return loaded


class Encoder:
    """Blocks of pictures as a model sees them, in parts from the moment memory runs out.

    Args:
        weights: the model's key under `models`, for what a message advises.
    """

    def __init__(self, model: VQAModel, files: PictureFiles, weights: str = "<name>") -> None:
        self.model, self.files, self.weights = model, files, weights
        self.limit: int | None = None  # pictures that memory is large enough for, once it wasn't

    def encode(self, paths: list[str], loaded: PictureBatch | None) -> Iterator[PictureBatch]:
        """A block's pictures, all at once if memory allows.

        Args:
            loaded: as `PictureFiles.load` gives them; None where memory was short for two blocks.
        Raises:
            UserError: memory isn't enough for one picture.
        """
        if self.limit is None or len(paths) <= self.limit:
            encoded = self.at_once(paths, loaded)
            if encoded is not None:
                yield encoded
                return
            release_memory()
            self.lower(len(paths))
        size = self.limit or len(paths)  # it may become less within the loop
        for start in range(0, len(paths), size):
            some = paths[start : start + size]
            part = None if loaded is None else self.files.part(loaded, some)
            yield from self.encode(some, part)

    def at_once(self, paths: list[str], loaded: PictureBatch | None) -> PictureBatch | None:
        """The pictures, or None if memory ran out; the caller frees it, outside the handler, which
        holds on to what didn't fit."""
        try:
            return self.files.encode(self.model, loaded or self.files.load(self.model, paths))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None

    def lower(self, size: int) -> None:
        """Take half as many pictures at a time as didn't fit."""
        if size == 1:
            raise UserError(
                f"out of memory with a single picture. {self.model.memory_advice(self.weights)} "
                "What is finished is kept."
            )
        self.limit = (size + 1) // 2
        print(
            f"out of memory: {self.limit} pictures at a time from now on. On a GPU their outputs "
            f"may differ from those of {size} at a time in the last digit.",
            file=sys.stderr,
        )


class PictureCache:
    """Pictures encoded once in all, in blocks of fixed composition, and kept.

    For models whose batches are made of questions, so that a picture comes back, and whose
    encodings are small enough to keep. Blocks are cut from the sorted paths, so that what a
    picture is encoded with doesn't depend on which rows are left to do. Only a block or two are
    held as pixels: a batch of questions may be about every picture there is.
    """

    def __init__(self, files: PictureFiles, paths: Sequence[str], block: int) -> None:
        self.files = files
        ordered = sorted(set(paths))
        self.blocks = [ordered[i : i + block] for i in range(0, len(ordered), block)]
        self.block_of = {path: b for b, block in enumerate(self.blocks) for path in block}
        self.values: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.encoder: Encoder | None = None

    def load(self, model: VQAModel, paths: Sequence[str]) -> Sequence[str]:
        return paths

    def part(self, loaded: Sequence[str], paths: Sequence[str]) -> Sequence[str]:
        return paths

    def encode(self, model: VQAModel, loaded: Sequence[str]) -> PictureBatch:
        import torch

        if self.encoder is None or self.encoder.model is not model:
            self.encoder = Encoder(model, self.files)
        missing = {
            self.block_of[p] for p in loaded if p not in self.values and p not in self.errors
        }
        blocks = [self.blocks[block] for block in sorted(missing)]
        for block, prepared in ahead(blocks, lambda paths: self.files.load(model, paths)):
            for encoded in self.encoder.encode(block, prepared):
                self.values |= {path: encoded.values[at] for path, at in encoded.place.items()}
                self.errors |= encoded.errors
        paths = [p for p in dict.fromkeys(loaded) if p in self.values]
        values: Any = torch.stack([self.values[p] for p in paths]) if paths else []
        errors = {p: self.errors[p] for p in loaded if p in self.errors}
        return PictureBatch(values, {path: at for at, path in enumerate(paths)}, errors)


def ahead(
    items: Sequence[_Item], load: Callable[[_Item], _Loaded]
) -> Iterator[tuple[_Item, _Loaded | None]]:
    """Each item with what `load` gives for it, the next one loading meanwhile.

    Two are in memory at a time; where that is one too many, an item comes with None.
    """

    def guarded(item: _Item) -> _Loaded | None:
        try:
            return load(item)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(guarded, items[0]) if items else None
        for i, item in enumerate(items):
            assert waiting is not None
            loaded = waiting.result()
            waiting = pool.submit(guarded, items[i + 1]) if i + 1 < len(items) else None
            yield item, loaded
            del loaded  # not held while the one after it is waited for


def usual_threads() -> int:
    """Threads that prepare pictures: the cores of this process's share, but for its main thread."""
    share = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(_MOST_THREADS, share - 1))


def _entries(values: Any, places: Sequence[int]) -> Any:
    """Some entries of a tensor [P, ...] or a list of P."""
    import torch

    if isinstance(values, torch.Tensor):
        return values[torch.tensor(places, dtype=torch.long)]
    return [values[place] for place in places]


def joined(parts: Sequence[PictureBatch]) -> PictureBatch:
    """What was computed of several groups of pictures, as one."""
    import torch

    place: dict[str, int] = {}
    errors: dict[str, str] = {}
    for part in parts:
        errors |= part.errors
        place |= {path: len(place) + at for path, at in part.place.items()}
    found = [part.values for part in parts if part.place]
    if found and isinstance(found[0], torch.Tensor):
        return PictureBatch(torch.cat(found), place, errors)
    return PictureBatch([entry for values in found for entry in values], place, errors)
