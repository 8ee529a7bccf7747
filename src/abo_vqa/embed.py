"""Pictures → BLIP's vision outputs, computed once for its baseline, training and evaluation.

The vision tower is frozen and has no dropout, so its output for a picture is a constant.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from abo_vqa.errors import UserError
from abo_vqa.io import (
    atomic_write,
    fingerprint,
    progress,
    read_json,
    read_table,
    scratch,
    write_json,
    write_table,
)
from abo_vqa.locks import discard, locked
from abo_vqa.refusals import storing
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel
    from abo_vqa.picture_sources import Files, PerPicture

VQA = Path("data/vqa.csv")
FOLDER = Path("data/embeddings")
# numpy has no bfloat16: its bits are kept as integers.
STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
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
        self.place = {path: at for at, path in enumerate(paths["path"])}
        self.errors = {p: e for p, e in zip(paths["path"], paths["error"], strict=True) if e}

    @classmethod
    def open(cls, folder: str | Path = FOLDER) -> EmbeddingStore:
        """Map a folder written by the stage `embed`; nothing is read until asked for.

        Raises:
            UserError: the folder is missing or incomplete.
        """
        folder = Path(folder)
        if not (folder / "vectors.npy").is_file():
            raise UserError(f"no vision outputs in {folder}; run the stage `embed`.")
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        return cls(vectors, read_table(folder / "paths.csv"), read_json(folder / "meta.json"))

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
        return {key: self.meta.get(key) for key in expected(config)} == expected(config)


def expected(config: Config) -> dict[str, Any]:
    """What vision outputs computed with `config` say of themselves."""
    from abo_vqa.models.loading import identity

    blip = config.models.blip
    return {
        "model": blip.path,
        "revision": blip.revision or "",
        "weights": fingerprint(identity(blip)),
        "dtype": config.embed.dtype,
    }


def to_array(encoded: torch.Tensor, dtype: str) -> np.ndarray:
    """A tensor's values in one of the stored formats."""
    import torch

    cast = encoded.to("cpu", getattr(torch, dtype))
    return np.asarray((cast.view(torch.uint16) if dtype == "bfloat16" else cast).numpy())


class Builder:
    """Vectors on their way: a file in the scratch folder and the number of blocks it holds.

    Blocks are written in order and counted after they are on disk, so a killed process leaves
    a whole number of them, and the next one goes on behind it.

    Args:
        blocks: how many there are; the file of all of them is only read.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: str, blocks: int) -> None:
        self.folder = folder
        self.file = folder / "vectors.npy"
        self.state = folder / "state.json"
        self.done, self.errors = self.saved(shape)
        if self.done:
            mode: Literal["r", "r+"] = "r" if self.done >= blocks else "r+"
            self.vectors = np.load(self.file, mmap_mode=mode)
        else:
            self.vectors = self.fresh(shape, dtype)

    def saved(self, shape: tuple[int, ...]) -> tuple[int, dict[str, str]]:
        """What an earlier process left: whole blocks, and path → error; nothing if damaged."""
        if not (self.state.is_file() and self.file.is_file()):
            return 0, {}
        try:
            found = json.loads(self.state.read_text(encoding="utf-8"))
            if np.load(self.file, mmap_mode="r").shape == shape:
                return int(found["done"]), dict(found["errors"])
            why = "of another shape"
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = str(error)
        print(f"{self.folder} is damaged ({why}): starting over.", file=sys.stderr)
        return 0, {}

    def fresh(self, shape: tuple[int, ...], dtype: str) -> np.memmap:
        """An empty file of its whole size: what is mapped can't refuse to be written to.

        Raises:
            OSError: there is no room for it.
        """
        self.file.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)
        vectors = np.lib.format.open_memmap(self.file, "w+", STORED[dtype], shape)
        size = self.file.stat().st_size
        try:
            with storing(self.file, size), self.file.open("r+b") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            self.file.unlink()
            raise
        return vectors

    def add(self, start: int, rows: Mapping[int, np.ndarray], errors: Mapping[str, str]) -> None:
        """Write one block: its first position, the vectors by position, and the failures."""
        for at, vector in rows.items():
            self.vectors[start + at] = vector
        self.vectors.flush()
        self.done += 1
        self.errors |= errors
        with atomic_write(self.state) as temporary:
            temporary.write_text(json.dumps({"done": self.done, "errors": self.errors}))


def build(config: Config, paths: Sequence[str], folder: Path) -> tuple[Path, dict[str, str]]:
    """Encode all pictures into folder/vectors.npy, going on where an earlier run stopped.

    Returns:
        The file, and path → reason for the pictures that can't be read.
    """
    import torch

    from abo_vqa.archive import open_archive
    from abo_vqa.models import load_model
    from abo_vqa.picture_sources import Files, ahead

    model = load_model("blip", config)
    vision = model.model.config.vision_config  # type: ignore[attr-defined]  # it is a Blip
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    size = config.embed.batch_size
    blocks = [list(range(i, min(i + size, len(paths)))) for i in range(0, len(paths), size)]
    shape = (len(paths), tokens, vision.hidden_size)
    builder = Builder(folder, shape, config.embed.dtype, len(blocks))
    left = blocks[builder.done :]
    with open_archive(config.data.raw) as archive, torch.inference_mode():
        files = Files(archive.image)
        loading = ahead(left, lambda block: files.load(model, [paths[i] for i in block]))
        for block, loaded in progress(loading, total=len(left), desc="embedding", unit="batch"):
            encoded = encode_block(model, files, [paths[i] for i in block], loaded)
            vectors = {
                at: to_array(encoded.values[encoded.place[paths[i]]], config.embed.dtype)
                for at, i in enumerate(block)
                if paths[i] in encoded.place
            }
            builder.add(block[0], vectors, encoded.errors)
    return builder.file, dict(builder.errors)


def encode_block(
    model: VQAModel, files: Files, paths: list[str], loaded: PerPicture | None
) -> PerPicture:
    """A block of pictures as the vision tower sees them.

    Args:
        loaded: them as `Files.load` gives them; None where memory was short for two blocks.
    Raises:
        UserError: memory isn't enough for a block.
    """
    from abo_vqa.memory import out_of_memory

    try:
        return files.encode(model, loaded or files.load(model, paths))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"out of memory: {len(paths)} pictures at a time. Lower embed.batch_size or "
            "models.blip.dtype; the blocks so far are kept."
        ) from error


def run(config: Config, log: Log = no_log) -> Summary:
    """Write data/embeddings for every picture that data/vqa.csv asks about."""
    summary = work(config, log)
    summary.cleanup()
    return summary


def work(config: Config, log: Log = no_log) -> Summary:
    """`run`, with the journal left to the summary's cleanup."""
    import torch

    torch.set_num_threads(config.threads)
    began = time.perf_counter()
    paths = sorted(set(read_table(VQA, ["image_path"])["image_path"]))
    meta = expected(config)
    key = fingerprint([meta, paths, config.compute.dtype, config.embed.model_dump()])
    with locked(scratch("embed", key)) as folder:
        vectors, errors = build(config, paths, folder)
        shape = np.load(vectors, mmap_mode="r").shape
        put(vectors, FOLDER / "vectors.npy")
    reasons = [errors.get(path, "") for path in paths]
    write_table(pd.DataFrame({"path": paths, "error": reasons}), FOLDER / "paths.csv")
    write_json(
        {**meta, "images": shape[0], "tokens": shape[1], "width": shape[2]}, FOLDER / "meta.json"
    )
    size = (FOLDER / "vectors.npy").stat().st_size
    seconds = time.perf_counter() - began
    return Summary(
        f"{len(paths)} pictures → {FOLDER} ({size / 1e6:.0f} MB, {config.embed.dtype})"
        + (f"; {len(errors)} can't be read" if errors else ""),
        metrics={
            "pictures": len(paths),
            "unreadable": len(errors),
            "bytes": size,
            "pictures_per_second": len(paths) / seconds,
        },
        cleanup=partial(discard, folder),
    )


def put(vectors: Path, out: Path) -> None:
    """Give a file a second name, without a second copy where both are on one disk."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    try:
        os.link(vectors, out)
    except OSError:  # another disk, or one without links
        with storing(out, vectors.stat().st_size):
            shutil.copyfile(vectors, out)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The stage takes none."""


def command(args: argparse.Namespace) -> int:
    return execute("embed", work)
