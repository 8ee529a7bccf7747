"""The vision outputs that the stage `embed` has computed, read from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from abo_vqa.core.errors import UserError, first_line
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.json_files import read_json, write_json
from abo_vqa.core.paths import EMBEDDINGS
from abo_vqa.core.tables import STUDY_COLUMNS, read_table, write_table
from abo_vqa.models.embeddings.files import META_FILE, PATHS_FILE, VECTORS_FILE
from abo_vqa.models.identity import identity

if TYPE_CHECKING:
    from abo_vqa.core.config import Config

SLICE = 64 * 2**20  # bytes that are read from the file at a time


class EmbeddingStore:
    """Vision outputs on disk; see `files` for what its folder holds.

    Args:
        vectors: N images' outputs of T tokens and width V; bfloat16 is stored as uint16.
        paths: columns image_path and error, in the order of the vectors.
        meta: what the outputs were computed with (see `expected_meta`), and their shape.

    Attributes:
        vectors: see above.
        meta: see above.
        index: path → position in `vectors`.
        errors: path → why the image can't be read; its vectors are zeros.
    """

    def __init__(self, vectors: np.ndarray, paths: pd.DataFrame, meta: Mapping[str, Any]) -> None:
        self.vectors = vectors
        self.meta = meta
        self.index = {path: i for i, path in enumerate(paths["image_path"])}
        self.errors = {p: e for p, e in zip(paths["image_path"], paths["error"], strict=True) if e}

    @classmethod
    def open(cls, folder: str | Path = EMBEDDINGS) -> EmbeddingStore:
        """Map a folder written by the stage `embed`; vectors are read when they are asked for.

        Args:
            folder: the stage's output.

        Raises:
            UserError: the folder is missing, incomplete or damaged.
        """
        folder = Path(folder)
        file = folder / VECTORS_FILE
        if not file.is_file():
            raise UserError(f"no vision outputs in {folder}; run the stage `embed`.")
        paths = read_table(folder / PATHS_FILE, ("image_path", "error"), STUDY_COLUMNS)
        meta = read_json(folder / META_FILE)
        try:
            vectors = np.load(file, mmap_mode="r")
            if len(vectors) != len(paths):
                raise ValueError(f"{len(vectors)} vectors for {len(paths)} images")
        except (ValueError, EOFError) as error:
            raise UserError(
                f"{file} is damaged or incomplete ({first_line(error)}): run the stage `embed` "
                "again."
            ) from error
        return cls(vectors, paths, meta)

    def get(self, paths: Sequence[str]) -> torch.Tensor:
        """Read images' vision outputs.

        Args:
            paths: N images.

        Returns:
            [N, T, V], in the dtype they are stored in.

        Raises:
            UserError: a path isn't in the store, or its image couldn't be read.
        """
        vectors = torch.empty((len(paths), *self.vectors.shape[1:]), dtype=self.dtype)
        self.fill(vectors, paths)
        return vectors

    def fill(self, out: torch.Tensor, paths: Sequence[str]) -> None:
        """Read images' vision outputs into a tensor, without a copy of the whole.

        Args:
            out: [N, T, V] on any device, in the dtype they are stored in.
            paths: N images.

        Raises:
            UserError: a path isn't in the store, or its image couldn't be read.
        """
        rows = self.rows(paths)
        # One pass over the file in its own order, scattered into the order asked for.
        order = np.argsort(rows, kind="stable")
        size = max(1, SLICE // self.image_bytes)
        for start in range(0, len(order), size):
            positions = order[start : start + size]
            vectors = torch.from_numpy(self.vectors[rows[positions]]).view(self.dtype)
            out.index_copy_(0, torch.from_numpy(positions).to(out.device), vectors.to(out.device))

    def rows(self, paths: Sequence[str]) -> np.ndarray:
        """Return images' positions in `vectors`.

        Args:
            paths: N images.

        Raises:
            UserError: a path isn't in the store, or its image couldn't be read.
        """
        for path in paths:
            if path in self.errors or path not in self.index:
                why = self.errors.get(path, "not in the embedding store; run `embed` again")
                raise UserError(f"no vision output of {path}: {why}.")
        return np.array([self.index[path] for path in paths], dtype=np.int64)

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's vision outputs."""
        return int(self.vectors.itemsize * np.prod(self.vectors.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype they are stored in."""
        dtype: torch.dtype = getattr(torch, self.meta["dtype"])
        return dtype

    def matches(self, config: Config) -> bool:
        """Return whether these are the outputs of the weights and dtype that `config` names."""
        expected = expected_meta(config)
        return {key: self.meta.get(key, "") for key in expected} == expected


def write_description(
    folder: Path, paths: Sequence[str], errors: Mapping[str, str], meta: Mapping[str, Any]
) -> None:
    """Write what belongs to the vectors of a store: the images, and what was computed how.

    Args:
        folder: the store's folder.
        paths: the images, in the order of the vectors.
        errors: path → why the image can't be read.
        meta: see `EmbeddingStore`.
    """
    table = pd.DataFrame({"image_path": paths, "error": [errors.get(path, "") for path in paths]})
    write_table(table, folder / PATHS_FILE)
    write_json(meta, folder / META_FILE)


def expected_meta(config: Config) -> dict[str, Any]:
    """Return what the meta.json of vision outputs computed with `config` says."""
    blip = config.models.blip
    return {
        "model": blip.path,
        "revision": blip.revision or "",
        "weights": fingerprint(identity(blip)),
        "quantize": blip.quantize or "",
        "dtype": config.embed.dtype,
    }
