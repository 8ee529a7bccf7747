"""Images → vision outputs, resumable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.fingerprints import fingerprint, stage_code
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.paths import EMBEDDINGS
from abo_vqa.core.progress import progress
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.data.archive import open_archive
from abo_vqa.models.embeddings.builder import EmbeddingBuilder
from abo_vqa.models.registry import load_model
from abo_vqa.models.sources import ImageEncoder, ImageFiles, prefetch

if TYPE_CHECKING:
    from abo_vqa.core.config import Config
    from abo_vqa.models.blip.model import Blip


def compute_dtype(config: Config) -> str:
    """Return the dtype that the vision tower computes in, which depends on the device.

    It is recorded and not required: outputs that a GPU computed in half precision can be used on a
    machine without one as well.
    """
    device = pick_device(config.compute.device)
    return str(pick_dtype(config.models.blip, config.compute, device)).removeprefix("torch.")


def to_array(encoded: torch.Tensor, dtype: str) -> np.ndarray:
    """Convert a tensor to one of the stored dtypes; bfloat16 becomes uint16 of the same bits."""
    values = encoded.to("cpu", getattr(torch, dtype))
    return np.asarray((values.view(torch.uint16) if dtype == "bfloat16" else values).numpy())


class _BuildResult(NamedTuple):
    """The vision outputs.

    Attributes:
        file: the vectors.
        errors: path → why the image can't be read.
        digest: of the vectors.
        peak: peak memory in bytes; see `abo_vqa.core.memory.peak_memory`.
    """

    file: Path
    errors: dict[str, str]
    digest: str
    peak: int


def build_embeddings(config: Config, paths: Sequence[str], folder: Path) -> _BuildResult:
    """Encode all images into folder/vectors.npy, continuing where an earlier run stopped.

    Args:
        config: the settings.
        paths: the images.
        folder: the scratch folder.

    Raises:
        UserError: memory isn't sufficient for a single image.
        OSError: the disk has no space for the file, or for the copy of it on another disk.
    """
    model = cast("Blip", load_model("blip", config))
    vision = model.model.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    size = config.embed.batch_size
    blocks = [list(range(i, min(i + size, len(paths)))) for i in range(0, len(paths), size)]
    shape = (len(paths), tokens, vision.hidden_size)
    builder = EmbeddingBuilder(folder, shape, config.embed.dtype, len(blocks), EMBEDDINGS)
    remaining = blocks[builder.done :]
    row = {path: i for i, path in enumerate(paths)}
    with open_archive(config.data.raw) as archive, torch.inference_mode():
        files = ImageFiles(archive.image)
        encoder = ImageEncoder(model, files, "blip")
        loaded = prefetch(remaining, lambda block: files.load(model, [paths[i] for i in block]))
        for block, images in progress(loaded, total=len(remaining), desc="embedding", unit="batch"):
            vectors: dict[int, np.ndarray] = {}
            errors: dict[str, str] = {}
            for encoded in encoder.encode([paths[i] for i in block], images):
                errors |= encoded.errors
                for path, i in encoded.index.items():
                    vectors[row[path]] = to_array(encoded.values[i], config.embed.dtype)
            builder.add(vectors, errors)
    peak = peak_memory(model.device)
    return _BuildResult(builder.file, dict(builder.errors), builder.digest, peak)


def embedding_key(config: Config, paths: Sequence[str], meta: Mapping[str, Any]) -> str:
    """Compute a fingerprint of all that vision outputs depend on: weights, settings, images, code.

    Args:
        config: the settings.
        paths: the images.
        meta: what the outputs' meta.json will say; see `expected_meta`.
    """
    with open_archive(config.data.raw) as archive:
        sizes = archive.sizes(paths)
    images = list(zip(paths, sizes, strict=True))
    return fingerprint([dict(meta), config.embed.model_dump(), stage_code("embed"), images])


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, without a second copy if both are on one disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        with report_full_disk(target, source.stat().st_size):
            shutil.copyfile(source, target)
