"""Batches of longer texts about images, in smaller parts while memory is short."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from abo_vqa.core.errors import UserError
from abo_vqa.core.memory import out_of_memory, release_memory
from abo_vqa.models.answering.batches import RowLimit
from abo_vqa.models.sources import ImageBatch, ImageFiles
from abo_vqa.models.writing import TextWriter, WritingOptions, WrittenText


@dataclass(frozen=True)
class WritingTask:
    """What a model is to write about an image.

    Attributes:
        image_path: the image.
        prompt: what is asked for.
        seed: decides what is drawn.
    """

    image_path: str
    prompt: str
    seed: int


class BatchWriter:
    """Has a model write batches of texts.

    Args:
        model: the model.
        images: loads the images.
        options: how to decode.
        checkpoint_key: the model's key under `models` in the profile, for messages.
    """

    def __init__(
        self, model: TextWriter, images: ImageFiles, options: WritingOptions, checkpoint_key: str
    ) -> None:
        self._model, self._images, self._options = model, images, options
        self._checkpoint_key = checkpoint_key
        self._limit = RowLimit()

    def load(self, paths: Sequence[str]) -> ImageBatch:
        """Decode and preprocess images; this may run in the background."""
        return self._images.load(self._model, paths)

    def write(
        self, tasks: Sequence[WritingTask], loaded: ImageBatch | None
    ) -> list[WrittenText | str]:
        """Write the texts of a batch.

        Args:
            tasks: B tasks about different images.
            loaded: the result of `load` for their images; None if memory was too small for it.

        Returns:
            B texts; instead of one, why its image can't be used.

        Raises:
            UserError: memory isn't sufficient for a single image.
        """
        results: dict[int, WrittenText | str] = {}
        pending = deque([list(range(len(tasks)))])
        while pending:
            rows = pending.popleft()
            if not self._limit.allows(len(rows)):
                size = self._limit.rows or 1
                parts = [rows[i : i + size] for i in range(0, len(rows), size)]
                pending.extendleft(reversed(parts))
                continue
            texts = self._try_write([tasks[row] for row in rows], loaded)
            if texts is not None:
                self._limit.succeeded(len(rows))
                results |= dict(zip(rows, texts, strict=True))
                continue
            release_memory()
            if len(rows) == 1:
                raise UserError(
                    "out of memory with a single image. "
                    f"{self._model.memory_advice(self._checkpoint_key)} What is finished is kept."
                )
            self._limit.failed(len(rows))
            pending.appendleft(rows)
        return [results[row] for row in range(len(tasks))]

    def _try_write(
        self, tasks: Sequence[WritingTask], loaded: ImageBatch | None
    ) -> list[WrittenText | str] | None:
        """Write some texts, or return None if memory has run out.

        The caller frees the memory: the exception's frames still refer to what didn't fit.
        """
        try:
            paths = [task.image_path for task in tasks]
            images = self.load(paths) if loaded is None else self._images.select(loaded, paths)
            encoded = self._images.encode(self._model, images)
            readable = [task for task in tasks if task.image_path in encoded.index]
            if not readable:
                return [encoded.errors[path] for path in paths]
            texts = self._model.write(
                [encoded.values[encoded.index[task.image_path]] for task in readable],
                [task.prompt for task in readable],
                [task.seed for task in readable],
                self._options,
            )
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None
        written = iter(texts)
        return [encoded.errors.get(path) or next(written) for path in paths]
