"""Pictures → BLIP's vision outputs, computed once for its baseline, training and evaluation.

The vision tower is frozen and has no dropout, so its output for a picture is a constant.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pandas as pd

from abo_vqa.embedding_builder import Builder
from abo_vqa.errors import UserError
from abo_vqa.io import (
    fingerprint,
    own_code,
    progress,
    read_json,
    read_table,
    scratch,
    write_json,
    write_table,
)
from abo_vqa.locks import discard, locked
from abo_vqa.memory import out_of_memory, peak_memory, release_memory
from abo_vqa.refusals import storing
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import Config
    from abo_vqa.models.base import VQAModel
    from abo_vqa.models.blip import Blip
    from abo_vqa.picture_sources import Files, PerPicture

VQA = Path("data/vqa.csv")
FOLDER = Path("data/embeddings")
# What vision outputs depend on, of src/abo_vqa; also in dvc.yaml.
CODE = (
    "archive.py", "embed.py", "embedding_builder.py", "models/base.py", "models/blip.py",
    "models/blip_vision.py", "models/devices.py", "models/loading.py", "models/pixels.py",
    "picture_sources.py", "pictures.py",
)  # fmt: skip
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
        return {key: self.meta.get(key, "") for key in expected(config)} == expected(config)


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


def arithmetic_dtype(config: Config) -> str:
    """The dtype that the vision tower computes in, which depends on the device.

    It is told and isn't demanded: outputs that a GPU computed in half precision serve on a machine
    without one as well.
    """
    from abo_vqa.models.devices import pick_device, pick_dtype

    device = pick_device(config.compute.device)
    return str(pick_dtype(config.models.blip, config.compute, device)).removeprefix("torch.")


def to_array(encoded: torch.Tensor, dtype: str) -> np.ndarray:
    """A tensor's values in one of the stored formats."""
    import torch

    cast = encoded.to("cpu", getattr(torch, dtype))
    return np.asarray((cast.view(torch.uint16) if dtype == "bfloat16" else cast).numpy())


class Built(NamedTuple):
    """What encoding left.

    Attributes:
        file: the vectors.
        errors: path → why the picture can't be read.
        digest: of the vectors.
        peak: bytes of memory at most; see `abo_vqa.memory.peak_memory`.
    """

    file: Path
    errors: dict[str, str]
    digest: str
    peak: int


def build(config: Config, paths: Sequence[str], folder: Path) -> Built:
    """Encode all pictures into folder/vectors.npy, going on where an earlier run stopped.

    Raises:
        UserError: memory isn't enough for one picture.
        OSError: the disk has no room for the file, or for the copy of it in another place.
    """
    import torch

    from abo_vqa.archive import open_archive
    from abo_vqa.models import load_model
    from abo_vqa.picture_sources import Files, ahead

    model = cast("Blip", load_model("blip", config))
    vision = model.model.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    size = config.embed.batch_size
    blocks = [list(range(i, min(i + size, len(paths)))) for i in range(0, len(paths), size)]
    shape = (len(paths), tokens, vision.hidden_size)
    builder = Builder(folder, shape, config.embed.dtype, len(blocks), FOLDER)
    left = blocks[builder.done :]
    place = {path: at for at, path in enumerate(paths)}
    with open_archive(config.data.raw) as archive, torch.inference_mode():
        files = Files(archive.image)
        encoder = Encoder(model, files)
        loading = ahead(left, lambda block: files.load(model, [paths[i] for i in block]))
        for block, loaded in progress(loading, total=len(left), desc="embedding", unit="batch"):
            vectors: dict[int, np.ndarray] = {}
            errors: dict[str, str] = {}
            for encoded in encoder.encode([paths[i] for i in block], loaded):
                errors |= encoded.errors
                for path, at in encoded.place.items():
                    vectors[place[path]] = to_array(encoded.values[at], config.embed.dtype)
            builder.add(vectors, errors)
    peak = peak_memory(model.device)
    return Built(builder.file, dict(builder.errors), builder.digest, peak)


class Encoder:
    """Blocks of pictures through the vision tower, in parts from the moment memory runs out."""

    def __init__(self, model: VQAModel, files: Files) -> None:
        self.model, self.files = model, files
        self.limit: int | None = None  # pictures that memory is large enough for, once it wasn't

    def encode(self, paths: list[str], loaded: PerPicture | None) -> Iterator[PerPicture]:
        """A block's pictures as the vision tower sees them, all at once if memory allows.

        Args:
            loaded: them as `Files.load` gives them; None where memory was short for two blocks.
        Raises:
            UserError: memory isn't enough for one picture.
        """
        if self.limit is None or len(paths) <= self.limit:
            try:
                encoded = self.files.encode(
                    self.model, loaded or self.files.load(self.model, paths)
                )
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                encoded = None
            if encoded is not None:
                yield encoded
                return
            release_memory()
            self.lower(len(paths))
        size = self.limit or len(paths)  # it may become less within the loop
        for start in range(0, len(paths), size):
            some = paths[start : start + size]
            part = None if loaded is None else self.files.part(loaded, some)
            yield from self.encode(some, part)

    def lower(self, size: int) -> None:
        """Take half as many pictures at a time as didn't fit."""
        if size == 1:
            raise UserError(
                "out of memory with a single picture. Use models.blip.dtype: bfloat16, or a larger "
                "GPU; the pictures so far are kept."
            )
        self.limit = (size + 1) // 2
        print(f"out of memory: {self.limit} pictures at a time from now on. On a GPU their outputs "
              f"may differ from those of {size} at a time in the last digit; "
              "embed.batch_size decides.", file=sys.stderr)  # fmt: skip


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
    arithmetic = {"arithmetic": arithmetic_dtype(config)}
    with locked(scratch("embed", journal_key(config, paths))) as folder:
        built = build(config, paths, folder)
        shape = np.load(built.file, mmap_mode="r").shape
        put(built.file, FOLDER / "vectors.npy")
    reasons = [built.errors.get(path, "") for path in paths]
    write_table(pd.DataFrame({"path": paths, "error": reasons}), FOLDER / "paths.csv")
    shown = {"images": shape[0], "tokens": shape[1], "width": shape[2], "digest": built.digest}
    write_json({**meta, **arithmetic, **shown}, FOLDER / "meta.json")
    size = (FOLDER / "vectors.npy").stat().st_size
    seconds = time.perf_counter() - began
    return Summary(
        f"{len(paths)} pictures → {FOLDER} ({size / 1e6:.0f} MB, {config.embed.dtype})"
        + (f"; {len(built.errors)} can't be read" if built.errors else ""),
        metrics={
            "pictures": len(paths),
            "unreadable": len(built.errors),
            "bytes": size,
            "pictures_per_second": len(paths) / seconds,
            "peak_memory_bytes": built.peak,
        },
        cleanup=partial(discard, folder),
    )


def journal_key(config: Config, paths: Sequence[str]) -> str:
    """A fingerprint of all that the vision outputs depend on: weights, settings, pictures, code."""
    from abo_vqa.archive import open_archive

    with open_archive(config.data.raw) as archive:
        sizes = archive.sizes(paths)
    settings = config.embed.model_dump()
    made_with = [expected(config), arithmetic_dtype(config), settings, own_code(CODE)]
    return fingerprint([*made_with, list(zip(paths, sizes, strict=True))])


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
