"""Vision outputs that are written without a model: of images of one shape, or of several."""

from contextlib import closing
from pathlib import Path

import numpy as np

from abo_vqa.data.vector_shards import Shard
from abo_vqa.models.embeddings.builder import EmbeddingBuilder
from abo_vqa.models.embeddings.publishing import publish_list, publish_vectors
from abo_vqa.models.embeddings.ragged import RaggedEmbeddingBuilder
from abo_vqa.models.embeddings.store import write_description
from abo_vqa.models.embeddings.uploading import ShardUploader

WIDTH, COUNT = 4, 23
UNREADABLE = {0: "empty", 9: "not a JPEG", 22: "empty"}
PATHS = [f"{i:02d}.jpg" for i in range(COUNT)]
KINDS = ["uniform", "ragged"]
ROOM = 5 * 3 * WIDTH * 4  # five images of three tokens in float32


def matrix(kind: str, row: int) -> np.ndarray:
    tokens = 3 if kind == "uniform" else 1 + row % 5
    values = np.random.default_rng(row).normal(size=(tokens, WIDTH))
    return values.astype(np.float32)


def make_builder(
    kind: str, work: Path, out: Path, uploaded: int | None = None
) -> EmbeddingBuilder | RaggedEmbeddingBuilder:
    if kind == "uniform":
        return EmbeddingBuilder(work, (COUNT, 3, WIDTH), "float32", out, uploaded)
    return RaggedEmbeddingBuilder(work, COUNT, "float32", out, uploaded)


def add_blocks(builder, kind: str, size: int, uploader: ShardUploader | None = None) -> None:
    blocks = [range(at, min(at + size, COUNT)) for at in range(0, COUNT, size)]
    for block in blocks[builder.done :]:
        rows = {row: matrix(kind, row) for row in block if row not in UNREADABLE}
        errors = {PATHS[row]: UNREADABLE[row] for row in block if row in UNREADABLE}
        texts = {row: f"<{row % 2}>" for row in rows} if kind == "ragged" else {}
        builder.add(rows, errors, texts)
        if uploader is not None:
            uploader.upload(builder.complete)
    builder.finish()


def describe(builder, out: Path) -> None:
    meta = {"dtype": "float32", **builder.sizes, "digest": builder.digest}
    write_description(out, PATHS, builder.errors, meta, builder.columns, builder.lines)


def build(kind: str, place: Path, size: int) -> None:
    """Write a store in blocks of `size` images, going on with what the scratch folder holds."""
    work, out = place / "work", place / "out"
    work.mkdir(parents=True, exist_ok=True)
    builder = make_builder(kind, work, out)
    add_blocks(builder, kind, size)
    publish_vectors(builder.shards, "float32", builder.row_shape, out)
    describe(builder, out)


def build_remote(kind: str, place: Path, size: int, url: str) -> list[Shard]:
    """The same with the shards on object storage; return those that were there before."""
    work, out = place / "work", place / "out"
    work.mkdir(parents=True, exist_ok=True)
    with closing(ShardUploader(url, work, {"what": "a test"})) as uploader:
        before = list(uploader.shards)
        builder = make_builder(kind, work, out, len(before))
        if not builder.done:
            uploader.forget()
        add_blocks(builder, kind, size, uploader)
        uploader.finish(builder.shards)
        publish_list(url, uploader.shards, "float32", builder.row_shape, out)
    describe(builder, out)
    return before


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
