"""The vision outputs that the stage `embed` has computed, read from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.tables import STUDY_COLUMNS, TableWriter, read_table
from abo_vqa.core.text_list import TextIndex, TextList
from abo_vqa.core.vector_files import SHARDS_FILE, VECTORS_FILE, has_vectors
from abo_vqa.data.remote_vectors import open_vectors
from abo_vqa.data.vector_shards import VectorShards
from abo_vqa.models.embeddings.files import META_FILE, PATHS_FILE, TEXTS_FILE
from abo_vqa.models.identity import identity
from abo_vqa.models.registry import checkpoint_of

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

SLICE = 64 * 2**20  # bytes that are read from the files at a time
_PIECE = 1 << 14  # images whose description is written at a time


def how_to_embed(model: str) -> str:
    """Return what to do about a model's missing or unusable vision outputs, for messages.

    Args:
        model: its name.
    """
    return f"run the stage `embed`: dvc repro embed@{model}"


class EmbeddingStore:
    """Vision outputs on disk; see `files` for what its folder holds.

    Args:
        vectors: [N, T, V], N images' outputs of T tokens and width V, or [S, V] if images may
            differ in T; bfloat16 is stored as uint16. In one file or in several.
        paths: columns image_path and error, in the order of the vectors; tokens and text, if images
            may differ in T.
        meta: what the outputs were computed with (see `expected_meta`), and their shape.
        lines: the lines of text that the column text counts.

    Attributes:
        vectors: see above.
        meta: see above.
        index: path → position of the image.
        errors: path → why the image can't be read; its vectors are zeros, or none.
    """

    def __init__(
        self,
        vectors: np.ndarray | VectorShards,
        paths: pd.DataFrame,
        meta: Mapping[str, Any],
        lines: Sequence[str] = (),
    ) -> None:
        self.vectors = vectors
        self.meta = meta
        self.index = TextIndex(TextList.of(paths["image_path"]))
        unreadable = paths[paths["error"] != ""]
        self.errors = dict(zip(unreadable["image_path"], unreadable["error"], strict=True))
        self._lines = list(lines)
        ragged = vectors.ndim == 2
        self._tokens = _numbers(paths["tokens"]) if ragged else np.zeros(0, np.int64)
        self._texts = _numbers(paths["text"]) if ragged else np.zeros(0, np.int64)
        self._ends = self._tokens.cumsum()

    @classmethod
    def open(cls, folder: str | Path) -> EmbeddingStore:
        """Map a folder written by the stage `embed`; vectors are read when they are asked for.

        Where they are several files, each is mapped, and checked, when it is first needed: the
        others may be missing.

        Args:
            folder: the stage's output.

        Raises:
            UserError: the folder is missing, incomplete or damaged.
        """
        folder = Path(folder)
        if not has_vectors(folder):
            raise UserError(f"no vision outputs in {folder}; {how_to_embed(folder.name)}.")
        paths = read_table(folder / PATHS_FILE, ("image_path", "error"), STUDY_COLUMNS)
        meta = read_json(folder / META_FILE)
        try:
            vectors = open_vectors(folder, how_to_embed(folder.name))
            lines = [] if vectors.ndim == 3 else read_json(folder / TEXTS_FILE)["lines"]
            store = cls(vectors, paths, meta, lines)
            if vectors.ndim == 3 and len(vectors) != len(paths):
                raise ValueError(f"{len(vectors)} vectors for {len(paths)} images")
            if vectors.ndim == 2 and len(vectors) != store._tokens.sum():
                raise ValueError(f"{len(vectors)} tokens of {store._tokens.sum()}")
        except (ValueError, EOFError, KeyError) as error:
            one = folder / VECTORS_FILE
            file = one if one.is_file() else folder / SHARDS_FILE
            raise UserError(
                f"{file} is damaged or incomplete ({first_line(error)}): "
                f"{how_to_embed(folder.name)}."
            ) from error
        return store

    def get(self, paths: Sequence[str]) -> Sequence[torch.Tensor]:
        """Read images' vision outputs.

        Args:
            paths: N images.

        Returns:
            N matrices [T, V] for `VQAModel.join_encoded`, in the dtype they are stored in; a tensor
            [N, T, V] if images don't differ.

        Raises:
            UserError: a path isn't in the store, or its image couldn't be read.
        """
        vectors = torch.empty(self.shape_of(paths), dtype=self.dtype)
        self.fill(vectors, paths)
        if self.vectors.ndim == 2:
            return torch.split(vectors, self.token_counts(paths))
        return cast("Sequence[torch.Tensor]", vectors)

    def texts(self, paths: Sequence[str]) -> list[str]:
        """Return the lines of text that belong to images' vectors; "" where there are none.

        Args:
            paths: N images.
        """
        if self.vectors.ndim == 3:
            return [""] * len(paths)
        return [self._lines[self._texts[row]] for row in self.rows(paths)]

    def token_counts(self, paths: Sequence[str]) -> list[int]:
        """Return images' numbers of tokens T.

        Args:
            paths: N images.
        """
        rows = self.rows(paths)
        if self.vectors.ndim == 3:
            return [int(self.vectors.shape[1])] * len(rows)
        counts: list[int] = self._tokens[rows].tolist()
        return counts

    def shape_of(self, paths: Sequence[str]) -> tuple[int, ...]:
        """Return the shape of all of some images' vectors: [N, T, V], or [their tokens, V].

        Args:
            paths: N images.
        """
        if self.vectors.ndim == 3:
            return (len(paths), *self.vectors.shape[1:])
        return (sum(self.token_counts(paths)), self.vectors.shape[1])

    def fill(self, out: torch.Tensor, paths: Sequence[str]) -> None:
        """Read images' vision outputs into a tensor, without a copy of the whole.

        Args:
            out: see `shape_of`; on any device, in the dtype they are stored in.
            paths: N images.

        Raises:
            UserError: a path isn't in the store, or its image couldn't be read.
        """
        rows = self.rows(paths)
        # One pass over the files in their own order, scattered into the order asked for.
        order = np.argsort(rows, kind="stable")
        if self.vectors.ndim == 2:
            self._fill_ragged(out, rows, order)
            return
        size = max(1, SLICE // self.image_bytes)
        for start in range(0, len(order), size):
            positions = order[start : start + size]
            vectors = torch.from_numpy(self.vectors[rows[positions]]).view(self.dtype)
            out.index_copy_(0, torch.from_numpy(positions).to(out.device), vectors.to(out.device))

    def _fill_ragged(self, out: torch.Tensor, rows: np.ndarray, order: np.ndarray) -> None:
        """Read images that differ in their number of tokens, some at a time, in the files' order.

        Args:
            out: see `fill`.
            rows: the images' positions.
            order: in which they are read.
        """
        ends = self._tokens[rows].cumsum()
        size = max(1, SLICE // max(1, int(self._tokens.max()) * self.image_bytes))
        for start in range(0, len(order), size):
            positions = order[start : start + size]
            tokens = self._tokens[rows[positions]]
            lasts = self._ends[rows[positions]]
            spans = [(int(end - n), int(end)) for end, n in zip(lasts, tokens, strict=True)]
            for position, count, part in zip(positions, tokens, self._spans(spans), strict=True):
                # Copied, because torch takes no array that can't be written to.
                vectors = torch.from_numpy(part.copy()).view(self.dtype)
                out[ends[position] - count : ends[position]] = vectors

    def _spans(self, spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Read tokens that follow one another."""
        if isinstance(self.vectors, VectorShards):
            return self.vectors.spans(spans)
        return [self.vectors[start:stop] for start, stop in spans]

    def rows(self, paths: Sequence[str]) -> np.ndarray:
        """Return images' positions.

        Args:
            paths: N images.

        Raises:
            UserError: a path isn't in the store, or its image couldn't be read.
        """
        places = self.index.places(paths)
        for path, place in zip(paths, places.tolist(), strict=True):
            if place < 0 or path in self.errors:
                why = self.errors.get(path, "not in the embedding store; run `embed` again")
                raise UserError(f"no vision output of {path}: {why}.")
        return places

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's vision outputs, where images don't differ; else of a token's."""
        return int(self.vectors.itemsize * np.prod(self.vectors.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype they are stored in."""
        dtype: torch.dtype = getattr(torch, self.meta["dtype"])
        return dtype

    def close(self) -> None:
        """Close the files; what was read remains. The store can be used again."""
        if isinstance(self.vectors, VectorShards):
            self.vectors.close()

    def matches(self, config: Config, model: str) -> bool:
        """Return whether these are the outputs of the weights and dtype that the settings name.

        Args:
            config: the settings.
            model: the model's name.
        """
        expected = expected_meta(config, model)
        return {key: self.meta.get(key, "") for key in expected} == expected


def _numbers(column: pd.Series) -> np.ndarray:
    """Return a column of numbers, which a table has as texts."""
    numbers: np.ndarray = column.astype(np.int64).to_numpy()
    return numbers


def write_description(
    folder: Path,
    paths: Sequence[str],
    errors: Mapping[str, str],
    meta: Mapping[str, Any],
    columns: Mapping[str, Sequence[int]] = MappingProxyType({}),
    lines: Sequence[str] = (),
) -> None:
    """Write what belongs to the vectors of a store: the images, and what was computed how.

    Args:
        folder: the store's folder.
        paths: the images, in the order of the vectors.
        errors: path → why the image can't be read.
        meta: see `EmbeddingStore`.
        columns: tokens and text, if images may differ in their number of tokens.
        lines: the lines that text counts.
    """
    with TableWriter(folder / PATHS_FILE, ["image_path", "error", *columns]) as writer:
        for start in range(0, len(paths), _PIECE):
            piece = slice(start, start + _PIECE)
            names = list(paths[piece])
            table = {"image_path": names, "error": [errors.get(name, "") for name in names]}
            numbers = {name: values[piece] for name, values in columns.items()}
            writer.write(pd.DataFrame({**table, **numbers}))
    (folder / TEXTS_FILE).unlink(missing_ok=True)  # of another kind of model before
    if columns:
        write_json({"lines": list(lines)}, folder / TEXTS_FILE)
    write_json(meta, folder / META_FILE)


def expected_meta(config: Config, model: str) -> dict[str, Any]:
    """Return what the meta.json of a model's vision outputs says.

    Args:
        config: the settings that they are computed with.
        model: the model's name.
    """
    checkpoint = checkpoint_of(model, config)
    return {
        "model": checkpoint.path,
        "revision": checkpoint.revision or "",
        "weights": fingerprint(identity(checkpoint)),
        "quantize": checkpoint.quantize or "",
        "dtype": config.embed.dtype,
    }
