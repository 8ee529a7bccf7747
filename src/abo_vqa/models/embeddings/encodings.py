"""Stored vision outputs as a source of a model's images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from abo_vqa.core.paths import embeddings_of
from abo_vqa.core.vector_files import has_vectors
from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.models.sources import ImageBatch

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.base import VQAModel


class StoredEncodings:
    """Images that the stage `embed` has encoded.

    Args:
        store: its vision outputs.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self.store = store

    def load(self, model: VQAModel, paths: Sequence[str]) -> ImageBatch:
        """Read vision outputs from disk."""
        errors = {p: self.store.errors[p] for p in paths if p in self.store.errors}
        places = self.store.index.places(paths).tolist()
        missing = [p for p, place in zip(paths, places, strict=True) if place < 0]
        errors |= dict.fromkeys(missing, "not in the embedding store")
        readable = [p for p in paths if p not in errors]
        index = {path: i for i, path in enumerate(readable)}
        values = model.join_encoded(self.store.get(readable), self.store.texts(readable))
        return ImageBatch(values, index, errors)

    def select(self, loaded: ImageBatch, paths: Sequence[str]) -> ImageBatch:
        """Return the part of a loaded batch that concerns some of the paths."""
        return loaded.select(paths)

    def encode(self, model: VQAModel, loaded: ImageBatch) -> ImageBatch:
        """Return the batch, which is encoded already."""
        return loaded


def stored_encodings(config: Config, model: str) -> StoredEncodings | None:
    """Return the vision outputs of the stage `embed`, or None if they don't fit the settings.

    Args:
        config: the settings.
        model: the model's name.

    Raises:
        UserError: the folder of vision outputs is incomplete or damaged.
    """
    folder = embeddings_of(model)
    if not has_vectors(folder):
        return None
    store = EmbeddingStore.open(folder)
    return StoredEncodings(store) if store.matches(config, model) else None
