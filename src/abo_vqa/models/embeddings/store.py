"""Vision outputs that the stage `embed` has computed, read from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from abo_vqa.core.errors import UserError
from abo_vqa.core.fingerprints import fingerprint
from abo_vqa.core.json_files import read_json
from abo_vqa.core.paths import EMBEDDINGS
from abo_vqa.core.tables import STUDY_COLUMNS, read_table

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import Config

SLICE = 64 * 2**20  # bytes that are read from the file at a time


class EmbeddingStore:
    """Vision outputs on disk: vectors.npy [pictures, tokens, width], paths.csv, meta.json.

    Attributes:
        meta: what they were computed with (see `expected`), and their shape.
        place: path → row of vectors.npy.
        errors: path → why the picture can't be read; its row is zeros.
    """

    def __init__(self, vectors: np.ndarray, paths: pd.DataFrame, meta: Mapping[str, Any]) -> None:
        self.vectors = vectors
        self.meta = meta
        self.place = {path: at for at, path in enumerate(paths["image_path"])}
        self.errors = {p: e for p, e in zip(paths["image_path"], paths["error"], strict=True) if e}

    @classmethod
    def open(cls, folder: str | Path = EMBEDDINGS) -> EmbeddingStore:
        """Map a folder written by the stage `embed`; nothing is read until asked for.

        Raises:
            UserError: the folder is missing or incomplete.
        """
        folder = Path(folder)
        if not (folder / "vectors.npy").is_file():
            raise UserError(f"no vision outputs in {folder}; run the stage `embed`.")
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        paths = read_table(folder / "paths.csv", ("image_path", "error"), STUDY_COLUMNS)
        return cls(vectors, paths, read_json(folder / "meta.json"))

    def get(self, paths: Sequence[str]) -> torch.Tensor:
        """Vision outputs of pictures: [paths, tokens, width], in the dtype they are stored in.

        Raises:
            UserError: a path isn't in the store, or its picture couldn't be read.
        """
        import torch

        taken = torch.empty((len(paths), *self.vectors.shape[1:]), dtype=self.dtype)
        self.fill(taken, paths)
        return taken

    def fill(self, out: torch.Tensor, paths: Sequence[str]) -> None:
        """Write pictures' vision outputs into `out`, on any device, with no copy of the whole.

        Args:
            out: [paths, tokens, width], in the dtype they are stored in.
        Raises:
            UserError: a path isn't in the store, or its picture couldn't be read.
        """
        import torch

        rows = self.rows(paths)
        # One pass over the file in its own order, then back into the order asked for.
        order = np.argsort(rows, kind="stable")
        size = max(1, SLICE // self.picture_bytes)
        for start in range(0, len(order), size):
            places = order[start : start + size]
            read = torch.from_numpy(self.vectors[rows[places]]).view(self.dtype)
            out.index_copy_(0, torch.from_numpy(places).to(out.device), read.to(out.device))

    def rows(self, paths: Sequence[str]) -> np.ndarray:
        """Pictures' rows of vectors.npy.

        Raises:
            UserError: a path isn't in the store, or its picture couldn't be read.
        """
        for path in paths:
            if path in self.errors or path not in self.place:
                why = self.errors.get(path, "not among the embedded pictures; run `embed` again")
                raise UserError(f"no vision output of {path}: {why}.")
        return np.array([self.place[path] for path in paths], dtype=np.int64)

    @property
    def picture_bytes(self) -> int:
        """Bytes of one picture's vision outputs."""
        return int(self.vectors.itemsize * np.prod(self.vectors.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        import torch

        dtype: torch.dtype = getattr(torch, self.meta["dtype"])
        return dtype

    def matches(self, config: Config) -> bool:
        """Whether these are the outputs of the weights and dtype that `config` names."""
        wanted = expected(config)
        return {key: self.meta.get(key, "") for key in wanted} == wanted


def expected(config: Config) -> dict[str, Any]:
    """What vision outputs computed with `config` say of themselves."""
    from abo_vqa.models.loading import identity

    blip = config.models.blip
    return {
        "model": blip.path,
        "revision": blip.revision or "",
        "weights": fingerprint(identity(blip)),
        "quantize": blip.quantize or "",
        "dtype": config.embed.dtype,
    }
