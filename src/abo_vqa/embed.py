"""Pictures → BLIP's vision outputs, computed once for its baseline, training and evaluation.

The vision tower is frozen and has no dropout, so its output for a picture is a constant.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pandas as pd

from abo_vqa.embedding_builder import Builder
from abo_vqa.embedding_store import FOLDER, expected
from abo_vqa.io import (
    fingerprint,
    own_code,
    progress,
    read_table,
    scratch,
    write_json,
    write_table,
)
from abo_vqa.locks import discard, locked
from abo_vqa.memory import peak_memory
from abo_vqa.refusals import storing
from abo_vqa.stage import Log, Summary, execute, no_log

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import Config
    from abo_vqa.models.blip import Blip

VQA = Path("data/vqa.csv")
# What vision outputs depend on, of src/abo_vqa; also in dvc.yaml.
CODE = (
    "archive.py", "embed.py", "embedding_builder.py", "embedding_store.py", "models/base.py",
    "models/blip.py", "models/blip_vision.py", "models/devices.py", "models/loading.py",
    "models/pixels.py", "picture_sources.py", "pictures.py",
)  # fmt: skip


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
    from abo_vqa.picture_sources import Encoder, Files, ahead

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
        encoder = Encoder(model, files, "blip")
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
    meta = {**expected(config), "arithmetic": arithmetic_dtype(config)}
    with locked(scratch("embed", journal_key(config, paths, meta))) as folder:
        built = build(config, paths, folder)
        shape = np.load(built.file, mmap_mode="r").shape
        put(built.file, FOLDER / "vectors.npy")
    reasons = [built.errors.get(path, "") for path in paths]
    write_table(pd.DataFrame({"path": paths, "error": reasons}), FOLDER / "paths.csv")
    shown = {"images": shape[0], "tokens": shape[1], "width": shape[2], "digest": built.digest}
    write_json({**meta, **shown}, FOLDER / "meta.json")
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


def journal_key(config: Config, paths: Sequence[str], meta: Mapping[str, Any]) -> str:
    """A fingerprint of all that the vision outputs depend on: weights, settings, pictures, code.

    Args:
        meta: what they will say of themselves; see `expected`.
    """
    from abo_vqa.archive import open_archive

    with open_archive(config.data.raw) as archive:
        sizes = archive.sizes(paths)
    pictures = list(zip(paths, sizes, strict=True))
    return fingerprint([dict(meta), config.embed.model_dump(), own_code(CODE), pictures])


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
