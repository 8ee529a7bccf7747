"""Images → vision outputs, resumable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import fingerprint, stage_code
from abo_vqa.core.locks import locked
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.progress import progress
from abo_vqa.core.scratch import scratch
from abo_vqa.core.system_errors import report_full_disk
from abo_vqa.data.archive import open_archive
from abo_vqa.models.base import VQAModel
from abo_vqa.models.embeddings.builder import EmbeddingBuilder
from abo_vqa.models.embeddings.files import VECTORS_FILE
from abo_vqa.models.embeddings.ragged import RaggedEmbeddingBuilder
from abo_vqa.models.embeddings.store import expected_meta, write_description
from abo_vqa.models.registry import checkpoint_of, load_checkpoint
from abo_vqa.models.sources import ImageEncoder, ImageFiles, prefetch

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, Config


def _compute_dtype(config: Config, checkpoint: CheckpointConfig) -> str:
    """Return the dtype that the vision part computes in, which depends on the device.

    It is recorded and not required: outputs that a GPU computed in half precision can be used on a
    machine without one as well.
    """
    device = pick_device(config.compute.device)
    return str(pick_dtype(checkpoint, config.compute, device)).removeprefix("torch.")


def to_array(encoded: torch.Tensor, dtype: str) -> np.ndarray:
    """Convert a tensor to one of the stored dtypes; bfloat16 becomes uint16 of the same bits."""
    values = encoded.to("cpu", getattr(torch, dtype))
    return np.asarray((values.view(torch.uint16) if dtype == "bfloat16" else values).numpy())


@dataclass(frozen=True)
class BuildResult:
    """What a build of the vision outputs leaves.

    Attributes:
        errors: path → why the image can't be read.
        encoded: number of images that this run has encoded; an earlier one may have begun.
        size: bytes of the vectors.
        peak: peak memory in bytes; see `abo_vqa.core.memory.peak_memory`.
        scratch: the scratch folder, to be discarded once the outputs are on record.
    """

    errors: dict[str, str]
    encoded: int
    size: int
    peak: int
    scratch: Path


def build_embeddings(
    config: Config, model_name: str, paths: Sequence[str], out: Path, *, pooled: bool = False
) -> BuildResult:
    """Write the vision outputs of all images, continuing where an earlier run stopped.

    Args:
        config: the settings.
        model_name: the model's name.
        paths: the images.
        out: the folder of the store.
        pooled: one vector per image instead, in float32 and of unit length.

    Raises:
        UserError: memory isn't sufficient for a single image; the outputs can't be stored.
        OSError: the disk has no space for the file, or for the copy of it on another disk.
    """
    checkpoint = checkpoint_of(model_name, config)
    stage = "vectors" if pooled else "embed"
    meta = {
        **expected_meta(config, model_name),
        "arithmetic": _compute_dtype(config, checkpoint),
    }
    if pooled:
        meta |= {"dtype": "float32", "pooling": "mean"}
    with locked(scratch(stage, embedding_key(config, paths, meta, stage))) as folder:
        model = load_checkpoint(checkpoint, config)
        stored = pooled_vector if pooled else type(model).split_encoded
        if stored is VQAModel.split_encoded:
            raise UserError(
                f"models.{model_name} ({checkpoint.path}) can be asked but not fine-tuned: its "
                "vision outputs can't be stored. Set lora.model to another model."
            )
        builder = _make_builder(config, model, paths, folder, out, meta["dtype"], pooled)
        encoded = _encode_images(config, model_name, model, paths, builder, stored)
        builder.finish()
        _link_or_copy(builder.file, out / VECTORS_FILE)
    meta |= {**builder.sizes, "digest": builder.digest}
    write_description(out, paths, builder.errors, meta, builder.columns, builder.lines)
    size = (out / VECTORS_FILE).stat().st_size
    return BuildResult(builder.errors, encoded, size, peak_memory(model.device), folder)


def pooled_vector(model: VQAModel, encoded: Any) -> tuple[torch.Tensor, str]:
    """Return an image's vector of unit length as a matrix of one row, and no text.

    Args:
        model: the model that has encoded it.
        encoded: one entry of the result of `VQAModel.encode`.
    """
    vector = model.image_vector(encoded).float()
    return torch.nn.functional.normalize(vector, dim=0)[None], ""


_Builder = EmbeddingBuilder | RaggedEmbeddingBuilder


def _make_builder(
    config: Config,
    model: VQAModel,
    paths: Sequence[str],
    folder: Path,
    out: Path,
    dtype: str,
    pooled: bool,
) -> _Builder:
    """The file to write; a ragged one for vectors, since not every model knows their width."""
    if pooled or model.encoded_shape is None:
        return RaggedEmbeddingBuilder(folder, len(paths), dtype, out)
    shape = (len(paths), *model.encoded_shape)
    return EmbeddingBuilder(folder, shape, dtype, len(_blocks(config, paths)), out)


def _blocks(config: Config, paths: Sequence[str]) -> list[list[int]]:
    """The positions of the images that are encoded together."""
    size = config.embed.batch_size
    return [list(range(i, min(i + size, len(paths)))) for i in range(0, len(paths), size)]


def _encode_images(
    config: Config,
    name: str,
    model: VQAModel,
    paths: Sequence[str],
    builder: _Builder,
    stored: Callable[[VQAModel, Any], tuple[torch.Tensor, str]],
) -> int:
    """Encode the images that are still missing; return their number."""
    dtype = builder.dtype
    blocks = _blocks(config, paths)
    remaining = blocks[builder.done :]
    row = {path: i for i, path in enumerate(paths)}
    with open_archive(config.data.raw) as archive, torch.inference_mode():
        files = ImageFiles(archive.image)
        encoder = ImageEncoder(model, files, name)
        loaded = prefetch(remaining, lambda block: files.load(model, [paths[i] for i in block]))
        for block, images in progress(loaded, total=len(remaining), desc="embedding", unit="batch"):
            vectors: dict[int, np.ndarray] = {}
            texts: dict[int, str] = {}
            errors: dict[str, str] = {}
            for encoded in encoder.encode([paths[i] for i in block], images):
                errors |= encoded.errors
                for path, i in encoded.index.items():
                    matrix, texts[row[path]] = stored(model, encoded.values[i])
                    vectors[row[path]] = to_array(matrix, dtype)
            builder.add(vectors, errors, texts)
    return sum(map(len, remaining))


def embedding_key(
    config: Config, paths: Sequence[str], meta: Mapping[str, Any], stage: str = "embed"
) -> str:
    """Compute a fingerprint of all that vision outputs depend on: weights, settings, images, code.

    Args:
        config: the settings.
        paths: the images.
        meta: what the outputs' meta.json will say; see `expected_meta`.
        stage: the stage that computes them.
    """
    with open_archive(config.data.raw) as archive:
        sizes = archive.sizes(paths)
    images = list(zip(paths, sizes, strict=True))
    return fingerprint([dict(meta), config.embed.model_dump(), stage_code(stage), images])


def _link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, without a second copy if both are on one disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        with report_full_disk(target, source.stat().st_size):
            shutil.copyfile(source, target)
