"""Where a model's images come from: stored vision outputs or the archive."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pandas as pd

from abo_vqa.core.fingerprints import fingerprint_pieces
from abo_vqa.core.text_list import TextList
from abo_vqa.data.archive import open_archive
from abo_vqa.models.embeddings.encodings import stored_encodings
from abo_vqa.models.sources import ImageCache, ImageFiles, ImageLoader

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.base import VQAModel

_CACHE_BLOCK = 64  # images


def image_source(
    config: Config,
    rows: pd.DataFrame,
    model: VQAModel,
    stack: ExitStack,
    *,
    checkpoint_key: str,
    use_stored: bool,
) -> ImageLoader[Any]:
    """Return stored vision outputs if some fit the model, else the archive's images.

    Args:
        config: the settings.
        rows: the rows to answer, with a column image_path.
        model: the loaded model.
        stack: closes the archive or the vision outputs.
        checkpoint_key: the model's key under `models` in the profile, for messages.
        use_stored: whether the model's vision part is the one that the stage `embed` runs.
    """
    if use_stored and (stored := stored_encodings(config, checkpoint_key)):
        stack.callback(stored.store.close)
        return stored
    archive = stack.enter_context(open_archive(config.data.raw))
    files = ImageFiles(archive.image, fetch=archive.prefetch)
    return keep_encoded(files, model, rows, checkpoint_key)


def keep_encoded(
    files: ImageFiles, model: VQAModel, rows: pd.DataFrame, checkpoint_key: str
) -> ImageLoader[Any]:
    """Return images that are encoded once, for a model whose batches are made of questions.

    Args:
        files: loads the images.
        model: the loaded model.
        rows: the rows to answer, with a column image_path.
        checkpoint_key: the model's key under `models` in the profile, for messages.

    Returns:
        The images; for a model whose batches are made of images, `files` themselves.
    """
    if model.batch_by == "question":
        return ImageCache(files, rows["image_path"].tolist(), _CACHE_BLOCK, checkpoint_key)
    return files


def images_state(
    config: Config, rows: pd.DataFrame, *, checkpoint_key: str, use_stored: bool
) -> Any:
    """Return what tells the images behind answers from others of the same names, for journals.

    Args:
        config: the settings.
        rows: the rows to answer, with a column image_path.
        checkpoint_key: as for `image_source`.
        use_stored: likewise.
    """
    if use_stored and (stored := stored_encodings(config, checkpoint_key)):
        return dict(stored.store.meta)
    paths = TextList.of(rows["image_path"])
    with open_archive(config.data.raw) as archive:
        return fingerprint_pieces(map(archive.sizes, paths.pieces()))
