"""Questions about images given as bytes, as the server and the registered model get them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.errors import first_line
from abo_vqa.core.log import get_logger
from abo_vqa.data.image_decoding import MAX_PIXELS, UnreadableImageError, decode, sha1
from abo_vqa.data.image_files import ImageError
from abo_vqa.data.image_inputs import ImageQuestion
from abo_vqa.models.answering.batches import AdaptiveBatcher, form_batches
from abo_vqa.models.answers import Answer
from abo_vqa.models.sources import ImageBatch, ImageCache, ImageFiles, ImageLoader

if TYPE_CHECKING:
    from PIL.Image import Image

    from abo_vqa.models.base import VQAModel

logger = get_logger(__name__)

_BLOCK = 64  # images that are encoded together, of a model whose batches are made of questions
_NO_MEMORY = "out of memory while answering this question alone"


class QuestionAnswerer:
    """Answers questions in batches as the pipeline does; one that can't be answered fails alone.

    Rows about the same bytes share one decoded and encoded image. It may be called from several
    threads, which take turns.

    Args:
        model: the model.
        batch_size: how many questions are answered together at most.
        max_pixels: of an image.
    """

    def __init__(self, model: VQAModel, batch_size: int, max_pixels: int = MAX_PIXELS) -> None:
        self.model = model
        self._batch_size = batch_size
        self._max_pixels = max_pixels
        self._contents: Mapping[str, bytes] = {}
        self._files = ImageFiles(self._open)
        self._lock = threading.Lock()

    def _open(self, digest: str) -> Image:
        try:
            return decode(self._contents[digest], "", max_pixels=self._max_pixels)
        except UnreadableImageError as error:
            raise ImageError("sent", f"not an image that can be read: {error}") from error

    def answer(self, asked: Sequence[ImageQuestion]) -> list[Answer]:
        """Answer questions.

        Args:
            asked: the questions and their images.

        Returns:
            The answers, in the questions' order; where there is none, its error says why.
        """
        digests = [sha1(one.image) for one in asked]
        rows = pd.DataFrame({"image_path": digests, "question": [one.question for one in asked]})
        with self._lock:
            self._contents = dict(zip(digests, (one.image for one in asked), strict=True))
            try:
                return self._answer(rows)
            finally:
                self._contents = {}

    def _answer(self, rows: pd.DataFrame) -> list[Answer]:
        """Answer rows of which images are digests of what was sent."""
        images: ImageLoader[Any] = _LatestImages(self._files)
        if self.model.batch_by == "question":
            images = ImageCache(self._files, rows["image_path"].tolist(), _BLOCK, "")
        answers: dict[int, Answer] = {}
        for batch in self._batches(rows):
            answers |= zip(batch, self._answer_batch(rows.iloc[batch], images), strict=True)
        return [answers[position] for position in range(len(rows))]

    def _batches(self, rows: pd.DataFrame) -> list[list[int]]:
        """Form batches; those of an image with many questions hold no other image."""
        keys = rows["image_path" if self.model.batch_by == "image" else "question"].tolist()
        counts = Counter(keys)
        large = [i for i, key in enumerate(keys) if counts[key] > self._batch_size]
        small = [i for i, key in enumerate(keys) if counts[key] <= self._batch_size]
        batches = []
        for group in (large, small):
            parts = form_batches([keys[i] for i in group], self._batch_size)
            batches += [[group[i] for i in part] for part in parts]
        return batches

    def _answer_batch(self, rows: pd.DataFrame, images: ImageLoader[Any]) -> list[Answer]:
        """Answer a batch; if the model fails, each row by itself: only the culprit fails."""
        try:
            batched = AdaptiveBatcher(self.model, images).answer(rows)
        except Exception as error:
            if len(rows) > 1:
                parts = [self._answer_batch(rows.iloc[[i]], images) for i in range(len(rows))]
                return [part[0] for part in parts]
            logger.exception("the model failed on a question")
            return [Answer("", None, f"the model failed: {first_line(error)}")]
        return [answer or Answer("", None, _NO_MEMORY) for answer in batched]


class _LatestImages:
    """The latest batch's images, encoded once however many batches the same images' questions fill.

    Args:
        files: loads the images.
    """

    def __init__(self, files: ImageFiles) -> None:
        self._files = files
        self._paths: list[str] = []
        self._loaded: ImageBatch | None = None
        self._encoded: ImageBatch | None = None

    def load(self, model: VQAModel, paths: Sequence[str]) -> ImageBatch:
        """Decode and preprocess images, unless they are the latest ones."""
        if self._loaded is None or self._paths != list(paths):
            self._loaded, self._encoded = None, None
            self._paths, self._loaded = list(paths), self._files.load(model, paths)
        return self._loaded

    def select(self, loaded: ImageBatch, paths: Sequence[str]) -> ImageBatch:
        """Return the part of a loaded batch that concerns some of the paths."""
        return self._files.select(loaded, paths)

    def encode(self, model: VQAModel, loaded: ImageBatch) -> ImageBatch:
        """Run the model's vision forward pass, unless it has been run on these images."""
        if loaded is not self._loaded:
            return self._files.encode(model, loaded)
        if self._encoded is None:
            self._encoded = self._files.encode(model, loaded)
        return self._encoded
