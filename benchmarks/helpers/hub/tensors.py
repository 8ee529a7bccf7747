"""Weights of any size on disk, by the names a checkpoint gives them, with little memory.

Values are slices of one block of random numbers: a benchmark needs weights that cost what trained
ones do and keep numbers finite, not weights that are independent of each other.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK = 4_194_301  # random numbers; a prime, so that the rows of a matrix never repeat
SPREAD = 0.02  # of biases, and of a norm's weights around 1
NAMES = {"float32": "F32", "float16": "F16", "int64": "I64"}  # as safetensors calls them


class Tensor(NamedTuple):
    """One entry of a checkpoint.

    Attributes:
        fill: "matrix" (spread 1/√inputs), "vector", "scale" (around 1), or "places" (0, 1, 2, …).
        like: whose values it repeats; by default its own name's.
    """

    name: str
    shape: tuple[int, ...]
    fill: str = "matrix"
    like: str = ""

    def type(self, dtype: str) -> np.dtype[np.generic]:
        return np.dtype("int64" if self.fill == "places" else dtype)

    def bytes(self, dtype: str) -> int:
        return math.prod(self.shape) * self.type(dtype).itemsize


def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> list[Tensor]:
    weight = Tensor(f"{name}.weight", (outputs, inputs))
    return [weight, Tensor(f"{name}.bias", (outputs,), "vector")] if bias else [weight]


def norm(name: str, width: int) -> list[Tensor]:
    return [
        Tensor(f"{name}.weight", (width,), "scale"),
        Tensor(f"{name}.bias", (width,), "vector"),
    ]


def table(name: str, rows: int, width: int) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (rows, width))]


def convolution(name: str, outputs: int, side: int, bias: bool = True) -> list[Tensor]:
    weight = Tensor(f"{name}.weight", (outputs, 3, side, side))
    return [weight, Tensor(f"{name}.bias", (outputs,), "vector")] if bias else [weight]


class Noise:
    """Values for tensors: the same for the same name, in pieces that fit into memory."""

    def __init__(self, seed: int = 0) -> None:
        self.block = np.random.default_rng(seed).standard_normal(BLOCK, dtype=np.float32)

    def pieces(self, tensor: Tensor, dtype: str) -> Iterator[npt.NDArray[np.generic]]:
        """The values in storage order, at most `BLOCK` at a time."""
        kind, left = tensor.type(dtype), math.prod(tensor.shape)
        if tensor.fill == "places":
            yield np.arange(left, dtype=kind)
            return
        at = zlib.crc32((tensor.like or tensor.name).encode()) % BLOCK
        spread = 1 / math.sqrt(math.prod(tensor.shape[1:])) if tensor.fill == "matrix" else SPREAD
        while left:
            piece = self.block[at : at + left] * np.float32(spread)
            yield (piece + 1 if tensor.fill == "scale" else piece).astype(kind)
            left, at = left - len(piece), 0

    def array(self, tensor: Tensor, dtype: str) -> npt.NDArray[np.generic]:
        return np.concatenate(list(self.pieces(tensor, dtype))).reshape(tensor.shape)


def write_safetensors(path: Path, tensors: Sequence[Tensor], dtype: str, noise: Noise) -> None:
    """The format's own layout, a piece of a tensor at a time: its library wants all in memory."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.bytes(dtype)
        kind = NAMES[tensor.type(dtype).name]
        header[tensor.name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            for piece in noise.pieces(tensor, dtype):
                file.write(piece.data)


def write_shards(
    folder: Path, tensors: Sequence[Tensor], dtype: str, shards: int, noise: Noise
) -> None:
    """`shards` files of about equal size, and the index that says which tensor is where."""
    total = sum(tensor.bytes(dtype) for tensor in tensors)
    parts: list[list[Tensor]] = [[] for _ in range(shards)]
    before = 0
    for tensor in tensors:
        parts[before * shards // total].append(tensor)
        before += tensor.bytes(dtype)
    where = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05d}-of-{shards:05d}.safetensors"
        write_safetensors(folder / name, part, dtype, noise)
        where |= {tensor.name: name for tensor in part}
    index = {"metadata": {"total_size": total}, "weight_map": where}
    text = json.dumps(index, indent=2, sort_keys=True)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def write_pickle(path: Path, tensors: Iterable[Tensor], dtype: str, noise: Noise) -> None:
    """torch's own format, as checkpoints were before safetensors."""
    import torch

    torch.save({t.name: torch.from_numpy(noise.array(t, dtype)) for t in tensors}, path)
