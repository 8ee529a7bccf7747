"""Images → vision outputs, resumable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abo_vqa.core.devices import pick_device, pick_dtype
from abo_vqa.core.engine.opening import model_needs, open_engine
from abo_vqa.core.fingerprints import fingerprint, fingerprint_pieces, stage_code
from abo_vqa.core.locks import locked
from abo_vqa.core.progress import progress
from abo_vqa.core.scratch import scratch
from abo_vqa.core.text_list import TextBatches
from abo_vqa.data.archive import open_archive
from abo_vqa.models.embeddings.builder import EmbeddingBuilder
from abo_vqa.models.embeddings.encoding import BlockEncoder, EncodedBlock
from abo_vqa.models.embeddings.publishing import publish_list, publish_vectors
from abo_vqa.models.embeddings.ragged import RaggedEmbeddingBuilder
from abo_vqa.models.embeddings.store import expected_meta, write_description
from abo_vqa.models.embeddings.uploading import ShardUploader
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from abo_vqa.core.config import CheckpointConfig, Config

_PIECE = 4096  # images whose sizes are hashed together


def _compute_dtype(config: Config, checkpoint: CheckpointConfig) -> str:
    """Return the dtype that the vision part computes in, which depends on the device.

    It is recorded and not required: outputs that a GPU computed in half precision can be used on a
    machine without one as well.
    """
    device = pick_device(config.compute.device)
    return str(pick_dtype(checkpoint, config.compute, device)).removeprefix("torch.")


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
    dtype = meta["dtype"]
    make = partial(BlockEncoder, config, model_name, dtype, pooled=pooled)
    place = scratch(stage, embedding_key(config, paths, meta, stage))
    with ExitStack() as stack:
        folder = stack.enter_context(locked(place))
        uploader = None
        if config.embed.store is not None and not pooled:
            url = f"{config.embed.store.rstrip('/')}/{model_name}/{folder.name}"
            uploader = stack.enter_context(closing(ShardUploader(url, folder, meta)))
        work = _Work(folder, out, dtype, uploader)
        builder, encoded, peak = _encode_images(config, make, paths, work)
        builder.finish()
        if uploader is None:
            size = publish_vectors(builder.shards, dtype, builder.row_shape, out)
        else:
            uploader.finish(builder.shards)
            size = publish_list(uploader.url, uploader.shards, dtype, builder.row_shape, out)
    meta |= {**builder.sizes, "digest": builder.digest}
    write_description(out, paths, builder.errors, meta, builder.columns, builder.lines)
    return BuildResult(builder.errors, encoded, size, peak, folder)


_Builder = EmbeddingBuilder | RaggedEmbeddingBuilder


@dataclass(frozen=True)
class _Work:
    """Where vectors are written, and go to."""

    folder: Path
    out: Path
    dtype: str
    uploader: ShardUploader | None

    def recorded(self) -> int:
        """Return how many blocks an earlier process has written."""
        return RaggedEmbeddingBuilder.recorded(self.folder) or EmbeddingBuilder.recorded(
            self.folder
        )

    def builder(self, shape: tuple[int, int] | None, count: int) -> _Builder:
        """Return the files to write; ragged ones if images differ in their shape."""
        uploaded = None if self.uploader is None else len(self.uploader.shards)
        builder: _Builder
        if shape is None:
            builder = RaggedEmbeddingBuilder(self.folder, count, self.dtype, self.out, uploaded)
        else:
            builder = EmbeddingBuilder(self.folder, (count, *shape), self.dtype, self.out, uploaded)
        if self.uploader is not None and not builder.done:
            self.uploader.forget()
        return builder


def _encode_images(
    config: Config, make: Callable[[], BlockEncoder], paths: Sequence[str], work: _Work
) -> tuple[_Builder, int, int]:
    """Encode the images that are still missing; return their files, their number, peak memory."""
    size = config.embed.batch_size
    start = work.recorded()
    with open_engine(config) as engine:
        while True:
            # An empty block first, which tells the images' shape: files have their full size
            # before anything is encoded.
            dealt = TextBatches(paths, size, start, empty_first=True)
            results = engine.run(make, dealt, model_needs(config), in_order=True)
            with closing(results):
                shape = next(results)[1].shape
                builder = work.builder(shape, len(paths))
                if builder.done != start:  # what was recorded is damaged
                    start = builder.done
                    continue
                peak = 0
                bar = progress(results, total=len(dealt) - 1, desc="embedding", unit="batch")
                for _, block in bar:
                    _add(builder, block, start=builder.done * size, paths=paths)
                    peak = max(peak, block.peak)
                    if work.uploader is not None:
                        work.uploader.upload(builder.complete)
                return builder, max(0, len(paths) - start * size), peak


def _add(builder: _Builder, block: EncodedBlock, start: int, paths: Sequence[str]) -> None:
    """Append a block whose first image is the one at `start`."""
    count = len(block.vectors) + len(block.errors)
    rows = {path: start + i for i, path in enumerate(paths[start : start + count])}
    vectors = {rows[path]: matrix for path, matrix in block.vectors.items()}
    texts = {rows[path]: text for path, text in block.texts.items()}
    builder.add(vectors, block.errors, texts)


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
    pieces = TextBatches(paths, _PIECE)
    with open_archive(config.data.raw) as archive:
        images = fingerprint_pieces([piece, archive.sizes(piece)] for piece in pieces)
    return fingerprint([dict(meta), config.embed.model_dump(), stage_code(stage), images])
