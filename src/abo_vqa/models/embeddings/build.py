"""Pictures → vision outputs, resumable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from abo_vqa.core.fingerprints import fingerprint, stage_code
from abo_vqa.core.memory import peak_memory
from abo_vqa.core.paths import EMBEDDINGS
from abo_vqa.core.progress import progress
from abo_vqa.core.system_errors import storing
from abo_vqa.models.embeddings.builder import Builder

if TYPE_CHECKING:
    import torch

    from abo_vqa.config import Config
    from abo_vqa.models.blip.model import Blip


def arithmetic_dtype(config: Config) -> str:
    """The dtype that the vision tower computes in, which depends on the device.

    It is told and isn't demanded: outputs that a GPU computed in half precision serve on a machine
    without one as well.
    """
    from abo_vqa.core.devices import pick_device, pick_dtype

    device = pick_device(config.compute.device)
    return str(pick_dtype(config.models.blip, config.compute, device)).removeprefix("torch.")


def to_array(encoded: torch.Tensor, dtype: str) -> np.ndarray:
    """A tensor's values in one of the stored formats."""
    import torch

    cast = encoded.to("cpu", getattr(torch, dtype))
    return np.asarray((cast.view(torch.uint16) if dtype == "bfloat16" else cast).numpy())


class _BuildResult(NamedTuple):
    """What encoding left.

    Attributes:
        file: the vectors.
        errors: path → why the picture can't be read.
        digest: of the vectors.
        peak: bytes of memory at most; see `abo_vqa.core.memory.peak_memory`.
    """

    file: Path
    errors: dict[str, str]
    digest: str
    peak: int


def build(config: Config, paths: Sequence[str], folder: Path) -> _BuildResult:
    """Encode all pictures into folder/vectors.npy, going on where an earlier run stopped.

    Raises:
        UserError: memory isn't enough for one picture.
        OSError: the disk has no room for the file, or for the copy of it in another place.
    """
    import torch

    from abo_vqa.data.archive import open_archive
    from abo_vqa.models.registry import load_model
    from abo_vqa.models.sources import Encoder, PictureFiles, ahead

    model = cast("Blip", load_model("blip", config))
    vision = model.model.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    size = config.embed.batch_size
    blocks = [list(range(i, min(i + size, len(paths)))) for i in range(0, len(paths), size)]
    shape = (len(paths), tokens, vision.hidden_size)
    builder = Builder(folder, shape, config.embed.dtype, len(blocks), EMBEDDINGS)
    left = blocks[builder.done :]
    place = {path: at for at, path in enumerate(paths)}
    with open_archive(config.data.raw) as archive, torch.inference_mode():
        files = PictureFiles(archive.image)
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
    return _BuildResult(builder.file, dict(builder.errors), builder.digest, peak)


def journal_key(config: Config, paths: Sequence[str], meta: Mapping[str, Any]) -> str:
    """A fingerprint of all that the vision outputs depend on: weights, settings, pictures, code.

    Args:
        meta: what they will say of themselves; see `expected`.
    """
    from abo_vqa.data.archive import open_archive

    with open_archive(config.data.raw) as archive:
        sizes = archive.sizes(paths)
    pictures = list(zip(paths, sizes, strict=True))
    return fingerprint([dict(meta), config.embed.model_dump(), dict(stage_code("embed")), pictures])


def put(vectors: Path, out: Path) -> None:
    """Give a file a second name, without a second copy where both are on one disk."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    try:
        os.link(vectors, out)
    except OSError:  # another disk, or one without links
        with storing(out, vectors.stat().st_size):
            shutil.copyfile(vectors, out)
