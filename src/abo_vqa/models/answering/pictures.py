"""Where a model's pictures come from: kept vision outputs or the archive."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.models.adapters import Adapter
from abo_vqa.models.sources import EmbeddedPictures, PictureCache, PictureFiles, Pictures

if TYPE_CHECKING:
    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel
from abo_vqa.core.paths import EMBEDDINGS


def pictures_for(
    name: str, config: Config, rows: pd.DataFrame, model: VQAModel, stack: ExitStack
) -> Pictures:
    """Stored vision outputs where there are some that fit, else the archive's pictures."""
    from abo_vqa.data.archive import open_archive

    if name == "blip" and (store := fitting_store(config)):
        return store
    files = PictureFiles(stack.enter_context(open_archive(config.data.raw)).image)
    if model.batch_by == "question":
        return PictureCache(files, rows["image_path"].tolist(), block=64)
    return files


def pictures_state(name: str, config: Config, rows: pd.DataFrame) -> Any:
    """What tells the pictures behind answers from others under the same names, for `journal_key`.

    Args:
        name: as in `pictures_for`.
    """
    from abo_vqa.data.archive import open_archive

    if name == "blip" and (stored := fitting_store(config)):
        return dict(stored.store.meta)
    with open_archive(config.data.raw) as archive:
        return archive.sizes(rows["image_path"])


def fitting_store(config: Config) -> EmbeddedPictures | None:
    """The stage `embed`'s vision outputs as a source of pictures, or None if they don't fit."""
    from abo_vqa.models.embeddings.store import EmbeddingStore

    if not (EMBEDDINGS / "vectors.npy").is_file():
        return None
    store = EmbeddingStore.open(EMBEDDINGS)
    return EmbeddedPictures(store) if store.matches(config) else None


def source_for(adapter: Adapter) -> str:
    """Whose pictures BLIP with an adapter sees, as `pictures_for` calls it: kept vision outputs
    are the base's, and of no use if the adapter changes the vision tower."""
    return "finetuned" if adapter.changes_vision else "blip"
