"""Where a model's images come from: stored vision outputs or the archive."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.paths import EMBEDDINGS, FINETUNED_MODEL
from abo_vqa.data.archive import open_archive
from abo_vqa.models.embeddings.store import EmbeddingStore
from abo_vqa.models.sources import ImageCache, ImageFiles, ImageLoader, StoredEncodings

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.adapters import Adapter
    from abo_vqa.models.base import VQAModel

_CACHE_BLOCK = 64  # images


def image_source(
    name: str, config: Config, rows: pd.DataFrame, model: VQAModel, stack: ExitStack
) -> ImageLoader[Any]:
    """Return stored vision outputs if some fit the model, else the archive's images.

    Args:
        name: the model's name, or the result of `vision_name`.
        config: the settings.
        rows: the rows to answer, with a column image_path.
        model: the loaded model.
        stack: closes the archive.
    """
    if name == "blip" and (stored := stored_encodings(config)):
        return stored
    files = ImageFiles(stack.enter_context(open_archive(config.data.raw)).image)
    if model.batch_by == "question":
        return ImageCache(files, rows["image_path"].tolist(), _CACHE_BLOCK)
    return files


def images_state(name: str, config: Config, rows: pd.DataFrame) -> Any:
    """Return what tells the images behind answers from others of the same names, for journals.

    Args:
        name: as for `image_source`.
        config: the settings.
        rows: the rows to answer, with a column image_path.
    """
    if name == "blip" and (stored := stored_encodings(config)):
        return dict(stored.store.meta)
    with open_archive(config.data.raw) as archive:
        return archive.sizes(rows["image_path"])


def stored_encodings(config: Config) -> StoredEncodings | None:
    """Return the vision outputs of the stage `embed`, or None if they don't fit the settings."""
    if not (EMBEDDINGS / "vectors.npy").is_file():
        return None
    store = EmbeddingStore.open(EMBEDDINGS)
    return StoredEncodings(store) if store.matches(config) else None


def vision_name(adapter: Adapter) -> str:
    """Return the model whose vision outputs BLIP with an adapter shares.

    Stored outputs are the base model's, and can't be used if the adapter changes the vision tower.
    """
    return FINETUNED_MODEL if adapter.changes_vision else "blip"
