"""Where a model's images come from, and how they are loaded in the background."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from abo_vqa.core.errors import UserError
from abo_vqa.core.log import get_logger
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.core.processes import cores
from abo_vqa.data.image_files import ImageError
from abo_vqa.models.base import VQAModel
from abo_vqa.models.refused_images import IMAGE_ERRORS, refusal_reasons

if TYPE_CHECKING:
    from PIL.Image import Image

logger = get_logger(__name__)

_CHUNK = 8  # images that are decoded and preprocessed at a time, by each thread
_MAX_THREADS = 8  # more would deliver images faster than a GPU takes them

_Item = TypeVar("_Item")
_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True)
class ImageBatch:
    """Preprocessed or encoded images.

    Attributes:
        values: one entry per readable image, as `VQAModel.preprocess` or `VQAModel.encode` returns
            them: a tensor [N, ...] or a list.
        index: image path → position in `values`.
        errors: image path → why the image can't be used.
    """

    values: Any
    index: Mapping[str, int]
    errors: Mapping[str, str]

    def select(self, paths: Sequence[str]) -> ImageBatch:
        """Return the part of the batch that concerns some of its paths."""
        readable = [path for path in paths if path in self.index]
        errors = {path: self.errors[path] for path in paths if path in self.errors}
        positions = [self.index[path] for path in readable]
        everything = positions == list(range(len(self.index)))
        values = self.values if everything else _take(self.values, positions)
        return ImageBatch(values, {path: i for i, path in enumerate(readable)}, errors)


class ImageLoader(Protocol[_Loaded]):
    """Where images come from."""

    def load(self, model: VQAModel, paths: Sequence[str]) -> _Loaded:
        """Read images; this runs in the background and must not use the model's device."""
        ...

    def select(self, loaded: _Loaded, paths: Sequence[str]) -> _Loaded:
        """Return the part of what was loaded that concerns some of the paths."""
        ...

    def encode(self, model: VQAModel, loaded: _Loaded) -> ImageBatch:
        """Encode what was loaded."""
        ...


class ImageFiles:
    """Images from files or an archive, preprocessed and encoded by the model.

    Args:
        open_image: returns the RGB image at a path, or raises `ImageError`; called from any thread.
        threads: threads that decode and preprocess; the default depends on the machine's cores. The
            results are the same for any number.
        fetch: fetches images that are opened next, many at a time; see `Archive.prefetch`.
    """

    def __init__(
        self,
        open_image: Callable[[str], Image],
        threads: int | None = None,
        fetch: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self.open_image, self._fetch = open_image, fetch
        threads = default_threads() if threads is None else threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def load(self, model: VQAModel, paths: Sequence[str]) -> ImageBatch:
        """Decode and preprocess images."""
        if self._fetch:
            self._fetch(paths)
        if len(paths) <= _CHUNK:
            return self._preprocess(model, paths)
        # In parts without threads, too: a batch's decoded images may not fit into memory together.
        chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
        run = map if self._pool is None else self._pool.map
        return _concatenate(list(run(lambda chunk: self._preprocess(model, chunk), chunks)))

    def _preprocess(self, model: VQAModel, paths: Sequence[str]) -> ImageBatch:
        images: dict[str, Image] = {}
        errors: dict[str, str] = {}
        for path in paths:
            try:
                image = self.open_image(path)
            except ImageError as error:
                errors[path] = error.reason
                continue
            if message := model.image_error(image):
                errors[path] = message
            else:
                images[path] = image
        try:
            values = model.preprocess(list(images.values())) if images else []
        except IMAGE_ERRORS as error:
            reasons = refusal_reasons(model.preprocess, list(images.values()), error)
            refused = {p: reason for p, reason in zip(images, reasons, strict=True) if reason}
            if not refused:
                raise
            errors |= refused
            images = {path: image for path, image in images.items() if path not in refused}
            values = model.preprocess(list(images.values())) if images else []
        return ImageBatch(values, {path: i for i, path in enumerate(images)}, errors)

    def select(self, loaded: ImageBatch, paths: Sequence[str]) -> ImageBatch:
        """Return the part of a loaded batch that concerns some of the paths."""
        return loaded.select(paths)

    def encode(self, model: VQAModel, loaded: ImageBatch) -> ImageBatch:
        """Run the model's vision forward pass."""
        values = model.encode(loaded.values) if loaded.index else []
        return ImageBatch(values, loaded.index, loaded.errors)


class ImageEncoder:
    """Encodes blocks of images, in smaller parts once memory has run out.

    Args:
        model: the model.
        files: loads the images.
        checkpoint_key: the model's key under `models` in the profile, for messages.
    """

    def __init__(self, model: VQAModel, files: ImageFiles, checkpoint_key: str) -> None:
        self.model = model
        self._files = files
        self._checkpoint_key = checkpoint_key
        self._limit: int | None = None  # images that fit; None until memory has run out

    def encode(self, paths: list[str], loaded: ImageBatch | None) -> Iterator[ImageBatch]:
        """Encode a block of images, all at once if memory allows.

        Args:
            paths: the block's paths.
            loaded: the result of `ImageFiles.load`; None if it didn't fit beside another block.

        Yields:
            The encoded images, in one or more parts.

        Raises:
            UserError: memory isn't sufficient for a single image.
        """
        if self._limit is None or len(paths) <= self._limit:
            encoded = self._try_encode(paths, loaded)
            if encoded is not None:
                yield encoded
                return
            release_memory()
            self._lower_limit(len(paths))
        size = self._limit or len(paths)  # the limit may become lower within the loop
        for start in range(0, len(paths), size):
            some = paths[start : start + size]
            part = None if loaded is None else self._files.select(loaded, some)
            yield from self.encode(some, part)

    def _try_encode(self, paths: list[str], loaded: ImageBatch | None) -> ImageBatch | None:
        """Encode images, or return None if memory has run out.

        The caller frees the memory: the exception's frames still refer to what didn't fit.
        """
        try:
            return self._files.encode(self.model, loaded or self._files.load(self.model, paths))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _lower_limit(self, size: int) -> None:
        """Halve the number of images that didn't fit."""
        if size == 1:
            raise UserError(
                "out of memory with a single image. "
                f"{self.model.memory_advice(self._checkpoint_key)} What is finished is kept."
            )
        self._limit = (size + 1) // 2
        logger.warning(
            f"out of memory: {self._limit} images at a time from now on. On a GPU their outputs "
            f"may differ in the last digit from those computed {size} at a time."
        )


class ImageCache:
    """Images that are encoded once, in blocks of fixed composition, and kept in memory.

    For models whose batches are made of questions, so that images come back, and whose encodings
    are small. Blocks are cut from the sorted paths, so that which images are encoded together
    doesn't depend on which rows are still to be answered. Only one or two blocks are held as pixel
    values: a batch of questions may be about all images there are.

    Args:
        files: loads the images.
        paths: all paths that may be asked for.
        block: images per block.
        checkpoint_key: the model's key under `models` in the profile, for messages.
    """

    def __init__(
        self, files: ImageFiles, paths: Sequence[str], block: int, checkpoint_key: str
    ) -> None:
        self._files = files
        self._checkpoint_key = checkpoint_key
        ordered = sorted(set(paths))
        self._blocks = [ordered[i : i + block] for i in range(0, len(ordered), block)]
        self._block_of = {path: i for i, block in enumerate(self._blocks) for path in block}
        self._encodings: dict[str, torch.Tensor] = {}
        self._errors: dict[str, str] = {}
        self._encoder: ImageEncoder | None = None

    def load(self, model: VQAModel, paths: Sequence[str]) -> Sequence[str]:
        """Return the paths: images are loaded in blocks, by `encode`."""
        return paths

    def select(self, loaded: Sequence[str], paths: Sequence[str]) -> Sequence[str]:
        """Return the paths."""
        return paths

    def encode(self, model: VQAModel, loaded: Sequence[str]) -> ImageBatch:
        """Return the images' encodings, computing those that are still missing."""
        if self._encoder is None or self._encoder.model is not model:
            self._encoder = ImageEncoder(model, self._files, self._checkpoint_key)
        missing = {
            self._block_of[p] for p in loaded if p not in self._encodings and p not in self._errors
        }
        blocks = [self._blocks[i] for i in sorted(missing)]
        for block, images in prefetch(blocks, lambda paths: self._files.load(model, paths)):
            for encoded in self._encoder.encode(block, images):
                self._encodings |= {path: encoded.values[i] for path, i in encoded.index.items()}
                self._errors |= encoded.errors
        paths = [p for p in dict.fromkeys(loaded) if p in self._encodings]
        values: Any = torch.stack([self._encodings[p] for p in paths]) if paths else []
        errors = {p: self._errors[p] for p in loaded if p in self._errors}
        return ImageBatch(values, {path: i for i, path in enumerate(paths)}, errors)


def prefetch(
    items: Sequence[_Item], load: Callable[[_Item], _Loaded]
) -> Generator[tuple[_Item, _Loaded | None], None, None]:
    """Load each item while the previous one is being used.

    Two loaded items are in memory at a time.

    Args:
        items: what is to be loaded.
        load: loads one item, in a background thread.

    Yields:
        Each item with the result of `load`, or with None if memory was too small for two.
    """

    def guarded(item: _Item) -> _Loaded | None:
        try:
            return load(item)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(guarded, items[0]) if items else None
        for i, item in enumerate(items):
            assert future is not None
            loaded = future.result()
            future = pool.submit(guarded, items[i + 1]) if i + 1 < len(items) else None
            yield item, loaded
            del loaded  # not held while the next one is waited for


def default_threads() -> int:
    """Return the number of preprocessing threads: this process's cores but for its main thread."""
    share = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(_MAX_THREADS, share - 1))


def _take(values: Any, positions: Sequence[int]) -> Any:
    """Take some entries of a tensor [N, ...] or a list."""
    if isinstance(values, torch.Tensor):
        return values[torch.tensor(positions, dtype=torch.long)]
    return [values[position] for position in positions]


def _concatenate(batches: Sequence[ImageBatch]) -> ImageBatch:
    """Join batches of different images."""
    index: dict[str, int] = {}
    errors: dict[str, str] = {}
    for batch in batches:
        errors |= batch.errors
        index |= {path: len(index) + i for path, i in batch.index.items()}
    values = [batch.values for batch in batches if batch.index]
    if values and isinstance(values[0], torch.Tensor):
        return ImageBatch(torch.cat(values), index, errors)
    return ImageBatch([entry for entries in values for entry in entries], index, errors)
